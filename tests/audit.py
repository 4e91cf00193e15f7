"""``python -m tests.audit FILE``: known weaknesses of the versions in a file of constraints.

It says so where the database cannot be reached, or does not know a package: nobody should take
silence for safety. The exit status is 1 if there are weaknesses.
"""

import json
import subprocess
import sys
from typing import Any


def verdict(found: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit status and the lines for what pip-audit found, as JSON."""
    packages = found["dependencies"]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if len(unknown) == len(packages):
        return 0, ["The database of weaknesses cannot be reached from here: nothing was checked."]
    lines, status = [], 0
    for one in packages:
        for weakness in one.get("vulns", []):
            fixed = ", ".join(weakness["fix_versions"]) or "no version yet"
            lines.append(f"{one['name']} {one['version']}: {weakness['id']}, mended in {fixed}")
            status = 1
    if unknown:
        lines.append(f"Not checked, since the database does not know them: {', '.join(unknown)}.")
    lines.append(f"{len(packages) - len(unknown)} of {len(packages)} packages were checked.")
    return status, lines


def main(constraints: str) -> int:
    """Ask pip-audit, and print what it knows."""
    words = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"]
    words += ["--no-deps", "--disable-pip", "-r", constraints]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        print(answer.stderr, file=sys.stderr)
        print("pip-audit could not ask its database: nothing was checked.")
        return 0 if "onnect" in answer.stderr else 2
    status, lines = verdict(found)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
