// Records from the microphone without the clean-up that browsers do for speech: it would take the music away.
const RATE_BPS = 192000;

/** Start to record; `level(ratio)` hears how loud it is. Returns {stop() → Blob}, which frees the microphone. */
export async function record({ level }) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers open the microphone only to pages from https or from this machine (localhost).");
  }
  const constraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const sound = await navigator.mediaDevices.getUserMedia({ audio: constraints }).catch((error) => {
    throw new Error(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : "No microphone was found.");
  });
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  context.createMediaStreamSource(sound).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    level(Math.min(1, Math.max(...samples.map(Math.abs))));
  }, 100);
  const parts = [];
  const recorder = new MediaRecorder(sound, { audioBitsPerSecond: RATE_BPS });
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();

  async function stop() {
    clearInterval(timer);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.stop();
    await stopped;
    for (const track of sound.getTracks()) track.stop();
    await context.close();
    return new Blob(parts, { type: recorder.mimeType });
  }
  return { stop };
}
