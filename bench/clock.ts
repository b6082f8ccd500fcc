import type { Device, Recorder } from '../engine/index.js';

/** Milliseconds of one of `repeats` runs. */
export type Clock = (run: (rec: Recorder) => void, repeats: number) => Promise<number>;

const wallClock =
  (device: Device): Clock =>
  async (run, repeats) => {
    const started = performance.now();
    for (let i = 0; i < repeats; i++) run(device.recorder);
    await device.recorder.finish();
    return (performance.now() - started) / repeats;
  };

const gpuClock =
  (device: Device): Clock =>
  async (run, repeats) => {
    const profiler = device.profiler!;
    profiler.reset();
    for (let i = 0; i < repeats; i++) run(device.recorder);
    const kernels = await profiler.table();
    return kernels.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / repeats;
  };

/** GPU timestamps around every dispatch, if the device was opened with `profile` and has them; else the wall clock. */
export const clockOf = (device: Device): Clock => (device.profiler ? gpuClock(device) : wallClock(device));
