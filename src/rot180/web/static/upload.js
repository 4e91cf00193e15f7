// Uploads an image: dropped, pasted, chosen, or taken with the camera.

function startUpload() {
  const place = document.querySelector("[data-upload]");
  if (!place) return;
  const error = place.querySelector("[data-upload-error]");
  const busy = place.querySelector("[data-upload-busy]");
  const camera = document.querySelector("#camera");

  async function upload(file) {
    error.hidden = true;
    if (!file) return;
    if (file.size > Number(place.dataset.most)) return fail(place.dataset.tooLarge);
    busy.hidden = false;
    try {
      const answer = await fetch(place.dataset.upload, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
      const told = await answer.json();
      if (!answer.ok) return fail(told.error);
      const query = new URLSearchParams(location.search);
      const kept = ["layer", "method", "unpool"].filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
      location.href = told.address + (kept.length ? `?${new URLSearchParams(kept)}` : "");
    } catch {
      fail("The server does not respond.");
    } finally {
      busy.hidden = true;
    }
  }

  function fail(words) {
    error.textContent = words;
    error.hidden = false;
    busy.hidden = true;
  }

  place.querySelector("input[type=file]").addEventListener("change", (event) => upload(event.target.files[0]));
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) upload(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  document.addEventListener("dragleave", () => place.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    upload(event.dataTransfer.files[0]);
  });

  const video = camera.querySelector("video");
  const shoot = camera.querySelector("[data-shoot]");
  const refused = camera.querySelector("[role=alert]");

  function stop() {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    shoot.disabled = true;
  }

  place.querySelector("[data-camera]").addEventListener("click", async () => {
    refused.hidden = true;
    camera.showModal();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (!camera.open) return stop();
      await video.play();
      shoot.disabled = false;
    } catch (problem) {
      refused.textContent = problem?.name === "NotAllowedError"
        ? "The browser blocks the camera. Allow it, or choose a file."
        : "No camera is available.";
      refused.hidden = false;
    }
  });
  shoot.addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    camera.close();
    canvas.toBlob(upload, "image/png");
  });
  camera.querySelector("[data-cancel]").addEventListener("click", () => camera.close());
  camera.addEventListener("close", stop);
}

startUpload();
