/** Requests a device with these features; where that fails, once more without the experiments among them. */
export async function requestDevice(
  adapter: Pick<GPUAdapter, 'requestDevice'>,
  features: readonly string[],
  experiments: readonly string[],
  requiredLimits: Record<string, number>,
): Promise<GPUDevice> {
  const request = (requiredFeatures: readonly string[]) =>
    adapter.requestDevice({ requiredFeatures: requiredFeatures as GPUFeatureName[], requiredLimits });
  const proven = features.filter(feature => !experiments.includes(feature));
  try {
    return await request(features);
  } catch (error) {
    if (proven.length === features.length) throw error;
    return request(proven);
  }
}
