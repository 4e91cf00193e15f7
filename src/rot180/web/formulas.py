"""What each number on a page means: its name, a sentence, and its formula in MathML.

The formulas are those of :mod:`rot180.atlas.statistics`: i runs over the N images, p over the P
positions of a feature's map, s over sampled positions; a is an activation, m the peak of an image.
"""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Formula:
    """A number that pages show.

    Attributes:
        label: what it is called.
        words: what it means, in a sentence.
        math: its formula, MathML that needs no escaping; empty where there is none.
        share: whether it is shown in per cent.
    """

    label: str
    words: str
    math: str = ""
    share: bool = False


def _math(inner: str) -> Markup:
    return Markup(f'<math display="block">{inner}</math>')


def _i(name: str) -> str:
    return f"<mi>{name}</mi>"


def _o(sign: str) -> str:
    return f"<mo>{sign}</mo>"


def _sub(base: str, below: str) -> str:
    return f"<msub>{_i(base)}<mrow>{below}</mrow></msub>"


def _over(top: str, bottom: str) -> str:
    return f"<mfrac><mrow>{top}</mrow><mrow>{bottom}</mrow></mfrac>"


def _under(sign: str, below: str) -> str:
    return f"<munder>{_o(sign)}<mrow>{below}</mrow></munder>"


_AIP, _MI = _sub("a", "<mi>i</mi><mi>p</mi>"), _sub("m", "<mi>i</mi>")
_N, _P = _i("N"), _i("P")
_PEAK = f"{_MI}{_o('=')}{_under('max', _i('p'))}{_AIP}"
_BEST = _sub("μ", "<mi>max</mi>")
_REST = _sub("μ", "<mi>rest</mi>")
_FIT = (
    f"<msub>{_i('a')}{_i('s')}</msub>{_o('≈')}{_i('c')}{_o('+')}{_i('r')}<msub>{_i('R')}{_i('s')}</msub>"
    f"{_o('+')}{_i('g')}<msub>{_i('G')}{_i('s')}</msub>{_o('+')}{_i('b')}<msub>{_i('B')}{_i('s')}</msub>"
)
_VARIANCE = (
    "<mn>1</mn>"
    + _o("−")
    + _over(
        f"{_under('∑', _i('s'))}<msup><mrow>{_o('(')}<msub>{_i('a')}{_i('s')}</msub>{_o('−')}"
        f"<msub><mover>{_i('a')}{_o('^')}</mover>{_i('s')}</msub>{_o(')')}</mrow><mn>2</mn></msup>",
        f"{_under('∑', _i('s'))}<msup><mrow>{_o('(')}<msub>{_i('a')}{_i('s')}</msub>{_o('−')}"
        f"<mover>{_i('a')}{_o('¯')}</mover>{_o(')')}</mrow><mn>2</mn></msup>",
    )
)
_A0 = _math(f"{_FIT}")

FORMULAS: dict[str, Formula] = {
    "max": Formula(
        "Largest activation",
        "The largest activation on any image.",
        _math(f"{_under('max', _i('i'))}{_MI}<mtext>, with </mtext>{_PEAK}"),
    ),
    "mean": Formula(
        "Mean activation",
        "The mean over all positions of all images.",
        _math(_over("<mn>1</mn>", f"{_N}{_P}") + _under("∑", "<mi>i</mi><mi>p</mi>") + _AIP),
    ),
    "mean_peak": Formula(
        "Mean peak",
        "The mean, over all images, of the largest activation on each.",
        _math(f"{_over('<mn>1</mn>', _N)}{_under('∑', _i('i'))}{_MI}<mtext>, with </mtext>{_PEAK}"),
    ),
    "firing_positions": Formula(
        "Fires at positions",
        "The share of all positions of all images with an activation above 0.",
        _math(
            _over(
                f"{_o('|')}{_o('{')}{_o('(')}{_i('i')}{_o(',')}{_i('p')}{_o(')')}{_o(':')}{_AIP}"
                f"{_o('&gt;')}<mn>0</mn>{_o('}')}{_o('|')}",
                f"{_N}{_P}",
            )
        ),
        share=True,
    ),
    "firing_images": Formula(
        "Fires on images",
        "The share of images with an activation above 0 anywhere.",
        _math(
            _over(
                f"{_o('|')}{_o('{')}{_i('i')}{_o(':')}{_MI}{_o('&gt;')}<mn>0</mn>{_o('}')}{_o('|')}",
                _N,
            )
        ),
        share=True,
    ),
    "class_selectivity": Formula(
        "Class selectivity",
        "How much stronger it is on its best class than on the others, from 0 to 1 (Morcos et al. "
        "2018); of mean peaks, the negative ones counted as 0.",
        _math(_over(f"{_BEST}{_o('−')}{_REST}", f"{_BEST}{_o('+')}{_REST}")),
    ),
    "colour_r2": Formula(
        "Explained by colour",
        "The share of its variance that the mean red, green and blue under the receptive field "
        "explain, by least squares over sampled positions.",
        Markup(f"{_A0}{_math(_VARIANCE)}"),
        share=True,
    ),
    "brightness_r2": Formula(
        "Explained by brightness",
        "The share of its variance that the mean of the three colours alone explains.",
        _math(_VARIANCE),
        share=True,
    ),
    "red": Formula(
        "With red",
        "Activation for the full range of red under the receptive field, the others fixed: r in "
        "the fit.",
        _A0,
    ),
    "green": Formula("With green", "The same for green: g in the fit.", _A0),
    "blue": Formula("With blue", "The same for blue: b in the fit.", _A0),
    "brightness": Formula(
        "With brightness",
        "Activation for the full range of all three together.",
        _math(f"{_i('r')}{_o('+')}{_i('g')}{_o('+')}{_i('b')}"),
    ),
    "channel": Formula("Number", "The feature's number in its layer."),
}

CORRELATION = Formula(
    "Correlation",
    "Pearson's correlation of two features over sampled positions of all images.",
    _math(
        _over(
            f"{_under('∑', _i('s'))}{_o('(')}<msub>{_i('a')}{_i('s')}</msub>{_o('−')}"
            f"<mover>{_i('a')}{_o('¯')}</mover>{_o(')')}{_o('(')}<msub>{_i('b')}{_i('s')}</msub>"
            f"{_o('−')}<mover>{_i('b')}{_o('¯')}</mover>{_o(')')}",
            f"<msqrt>{_under('∑', _i('s'))}<msup><mrow>{_o('(')}<msub>{_i('a')}{_i('s')}</msub>"
            f"{_o('−')}<mover>{_i('a')}{_o('¯')}</mover>{_o(')')}</mrow><mn>2</mn></msup>"
            f"{_under('∑', _i('s'))}<msup><mrow>{_o('(')}<msub>{_i('b')}{_i('s')}</msub>{_o('−')}"
            f"<mover>{_i('b')}{_o('¯')}</mover>{_o(')')}</mrow><mn>2</mn></msup></msqrt>",
        )
    ),
)

RESPONSE = Formula(
    "Mean peak on a class",
    "The mean of the peaks on the images of a class c.",
    _math(
        f"{_sub('μ', _i('c'))}{_o('=')}"
        + _over("<mn>1</mn>", _sub("N", _i("c")))
        + _under("∑", f"{_i('i')}{_o('∈')}{_i('c')}")
        + _MI
    ),
)

_S, _SMAX = _i("s"), f"{_i('max')}{_o('(')}{_i('s')}{_o(',')}<mn>0</mn>{_o(')')}"
_SLOPE = f"<msup>{_i('f')}{_o('′')}</msup>"

METHOD_FORMULAS: dict[str, Formula] = {
    "auto": Formula(
        "auto",
        "The method that was measured to be most faithful at this layer.",
        "",
    ),
    "deconvnet": Formula(
        "deconvnet",
        "At every rectifier the backward signal is itself rectified (Zeiler & Fergus 2014).",
        _math(f"{_S}{_o('→')}{_SMAX}"),
    ),
    "gradient": Formula(
        "gradient",
        "At every rectifier the signal is multiplied by the rectifier's derivative: it passes a "
        "ReLU where the unit fired (Simonyan et al. 2014).",
        _math(f"{_S}{_o('→')}{_SLOPE}{_S}"),
    ),
    "guided": Formula(
        "guided",
        "The rectified signal, multiplied by the derivative (Springenberg et al. 2015).",
        _math(f"{_S}{_o('→')}{_SLOPE}{_SMAX}"),
    ),
    "gradient_times_image": Formula(
        "gradient times image",
        "The gradient g, multiplied by the normalised image x (Shrikumar et al. 2016).",
        _math(f"{_i('x')}{_i('g')}{_o('(')}{_i('x')}{_o(')')}"),
    ),
    "smoothgrad_squared": Formula(
        "smoothgrad squared",
        "The mean, over four images with noise e, of the squared gradient (Smilkov et al. 2017, "
        "Hooker et al. 2019). It has neither sign nor colour.",
        _math(
            _over("<mn>1</mn>", "<mn>4</mn>")
            + _under("∑", _i("e"))
            + f"<msup>{_i('g')}<mn>2</mn></msup>{_o('(')}{_i('x')}{_o('+')}{_i('e')}{_o(')')}"
        ),
    ),
}
UNPOOLING_WORDS = {
    "switches": "At max pooling the signal goes to the position of the maximum.",
    "repeat": "At max pooling the whole window gets the signal.",
}
