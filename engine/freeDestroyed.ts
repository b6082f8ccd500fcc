/**
 * Empty submits after which destroyed buffers are free. Dawn looks for buffers to free while it waits for a submit, unless
 * the submit ends between two of its looks: measured, one awaited submit in eight freed nothing, and each further one freed
 * it again in seven cases of eight.
 */
const SUBMITS = 4;

/**
 * Waits until the driver has the memory of destroyed buffers back: Dawn keeps it until a later submit is done.
 *
 * @param wait how to wait for one of Dawn's promises.
 */
export const freeDestroyed = async (
  gpu: GPUDevice,
  wait: (done: Promise<undefined>) => Promise<undefined> = done => done,
): Promise<void> => {
  for (let submit = 0; submit < SUBMITS; submit++) {
    gpu.queue.submit([gpu.createCommandEncoder().finish()]);
    await wait(gpu.queue.onSubmittedWorkDone());
  }
};
