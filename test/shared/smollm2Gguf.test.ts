import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { convert, evaluate, generate, loadTokenizer, logits, Model } from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { maxAbsError } from '../gpu.js';
import { askLlamaCpp, llamaCpp, logProbabilities } from '../llamaCpp.js';
import { saySkipped, sharedPath, temporaryFolder } from '../support.js';

// What shared/models/smollm2.py --keep-gguf builds; .ci/run names it.
const folder = process.env.RM_SMOLLM2;
const file = process.env.RM_SMOLLM2_GGUF;
const golden = sharedPath('golden', 'smollm2');

const readJson = <T>(name: string) => JSON.parse(readFileSync(join(golden!, name), 'utf8')) as T;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

if (!golden || !folder || !file) {
  saySkipped('SmolLM2 from its Q4_1 GGUF: set RM_SMOLLM2 and RM_SMOLLM2_GGUF, shared/ beside the repository');
} else {
  const device = await Device.open();
  test.after(() => device.close());
  const tokens = readJson<Record<string, number[][]>>('tokens.json');
  const { greedy } = readJson<{ greedy: { prompt_ids: number[] }[] }>('logits.json');

  test('tokens of the metadata are those of tokenizer.json', async () => {
    const { strings } = readJson<{ strings: { text: string; ids: number[] }[] }>('tokenizer.json');
    const tokenizer = await loadTokenizer(file);
    for (const { text, ids } of strings) assert.equal(await tokenizer.encode(text), ids, text);
  });

  test('logits are those of the folder, whose weights are the same rounded to bfloat16', async () => {
    const ids = tokens.eval_wt2![0]!.slice(0, 64);
    const of = async (path: string) => {
      using model = await Model.load(device, path);
      return (await logits(model, ids)).logits;
    };
    const [found, expected] = [await of(file), await of(folder)];
    let [difference, norm] = [0, 0];
    for (const [i, value] of expected.entries()) {
      difference += (found[i]! - value) ** 2;
      norm += value ** 2;
    }
    // bfloat16 rounds by 2^-9 of a weight at most, which 30 layers carry on.
    assert.ok(Math.sqrt(difference / norm) < 0.02, `${Math.sqrt(difference / norm)}`);
  });

  if (!llamaCpp) {
    saySkipped('the pruned GGUF file in llama.cpp: set RM_LLAMA_CPP to the folder of node-llama-cpp');
  } else {
    const place = temporaryFolder();
    test.after(() => place[Symbol.dispose]());
    const out = join(place.path, 'pruned.gguf');
    const sequences = [tokens.eval_wt2![0]!.slice(0, 128), tokens.eval_chat![0]!.slice(0, 128)];
    const request = {
      sequences,
      greedy: { ids: greedy[0]!.prompt_ids, count: 24 },
      text: "Hello<|im_end|>\n 1234 it's",
    };

    test('pruned to GGUF: llama.cpp has the same tokens and perplexity', async () => {
      await prune(file, out, { device, window: 11, layers: 7, tokens: 2048, report: 'none' });
      const theirs = askLlamaCpp([{ ...request, path: out }])[0]!;
      using model = await Model.load(device, out);
      assert.equal(await (await loadTokenizer(out)).encode(request.text), theirs.ids);
      const { perplexity } = await evaluate(model, sequences);
      const reference = Math.exp(-mean(theirs.logProbabilities.flat()));
      console.log(`perplexity: ours ${perplexity.toFixed(3)}, llama.cpp ${reference.toFixed(3)}`);
      assert.ok(Math.abs(perplexity / reference - 1) < 0.01, `${perplexity} against ${reference}`);
    });

    // With blocks llama.cpp rounds activations to 8 bits, so that the likelier of two tokens may be the other one.
    test('in f32, the same greedy text and log-probabilities', async () => {
      const wide = join(place.path, 'f32.gguf');
      await convert(device, out, wide, { type: 'F32' });
      const short = sequences.map(ids => ids.slice(0, 48));
      const theirs = askLlamaCpp([{ ...request, path: wide, sequences: short }])[0]!;
      using model = await Model.load(device, wide);
      assert.equal(await generate(model, request.greedy.ids, { maxTokens: 24 }), theirs.greedy);
      for (const [s, ids] of short.entries()) {
        const own = logProbabilities((await logits(model, ids)).logits, ids);
        const worst = maxAbsError(own, theirs.logProbabilities[s]!);
        console.log(`sequence ${s}: log-probabilities differ by ${worst.toExponential(1)} at most`);
        assert.ok(worst < 1e-2, `sequence ${s}: ${worst}`);
      }
    });
  }
}

test.run();
