// llama.cpp's Vulkan backend through node-llama-cpp: `node llama.mjs FILE.gguf`. Uses prebuilt binaries: nothing is
// downloaded or compiled. A prompt's pass computes no logits.
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { serve, timed } from '../../../dist/bench/peers/serve.js';

const [file] = process.argv.slice(2);

// llama.cpp skips software Vulkan devices unless one is named.
const gpus = ['/dev/nvidia0', '/dev/kfd', '/dev/dri'];
if (process.platform === 'linux' && !gpus.some(path => existsSync(path))) {
  process.env.GGML_VK_VISIBLE_DEVICES ??= '0';
}

await serve(async () => {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  const log = [];
  const llama = await getLlama({
    gpu: 'vulkan',
    build: 'never',
    skipDownload: true,
    logLevel: LlamaLogLevel.debug,
    logger: (_level, message) => void log.push(message.trim()),
  });
  const model = await llama.loadModel({
    modelPath: file,
    gpuLayers: 'max',
    defaultContextFlashAttention: false,
    ignoreMemorySafetyChecks: true,
  });
  const find = pattern => log.map(line => pattern.exec(line)).find(Boolean);
  // llama.cpp may skip software Vulkan devices and compute on the CPU while 'gpu' still says Vulkan.
  const device = find(/using device (Vulkan\d+ \(.*?\)+)/)?.[1];
  const layers = find(/offloaded (\d+)\/(\d+) layers to GPU/);
  if (!device || !layers || layers[1] !== layers[2]) {
    throw new Error(
      `not all layers are on a Vulkan device: ${device ?? 'none used'}, ${layers?.[0] ?? 'none offloaded'}`,
    );
  }

  let context;
  const sequenceFor = async (prompt, tokens) => {
    await context?.dispose();
    context = await model.createContext({
      contextSize: prompt + tokens + 8,
      batchSize: prompt,
      sequences: 1,
      ignoreMemorySafetyChecks: true,
    });
    return context.getSequence();
  };
  const prefill = async ({ ids }) => {
    const sequence = await sequenceFor(ids.length, 1);
    return {
      sample: async () => {
        await sequence.clearHistory();
        return timed(() => sequence.evaluateWithoutGeneratingNewTokens([...ids]));
      },
    };
  };
  const decode = async ({ ids, tokens }) => {
    const sequence = await sequenceFor(ids.length, tokens + 1);
    return {
      sample: async () => {
        await sequence.clearHistory();
        const times = [];
        // The prompt's pass makes the first token, `tokens` steps make the others.
        for await (const _ of sequence.evaluate([...ids], { temperature: 0, yieldEogToken: true })) {
          times.push(performance.now());
          if (times.length > tokens) break;
        }
        return times.at(-1) - times[0];
      },
    };
  };
  const manifest = new URL('../node_modules/node-llama-cpp/package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
  return {
    version: `node-llama-cpp ${version}, weights of ${basename(file)}`,
    adapter: `${device}, ${layers[0]}`,
    tasks: { prefill, decode },
  };
});
