import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { convert, logits, Model } from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { familyData } from '../familyData.js';
import { ggufCases, likeOtherCases, writeGgufCase } from '../ggufFamilies.js';
import { maxAbsError } from '../gpu.js';
import { askLlamaCpp, llamaCpp, logProbabilities } from '../llamaCpp.js';
import type { LlamaRequest } from '../llamaScores.js';
import { saySkipped, temporaryFolder } from '../support.js';

if (!llamaCpp) {
  saySkipped('GGUF files of all families in llama.cpp: set RM_LLAMA_CPP to the folder of node-llama-cpp');
} else {
  const cases = { ...ggufCases, ...likeOtherCases };
  const device = await Device.open();
  const place = temporaryFolder();
  test.after(async () => {
    place[Symbol.dispose]();
    await device.close();
  });

  test('llama.cpp computes of every family what we do, before and after pruning', async () => {
    const requests: LlamaRequest[] = [];
    const own: number[][] = [];
    const wrong: string[] = [];
    for (const [i, given] of Object.values(cases).entries()) {
      const { ids } = await familyData(given.family);
      // Not by name: llama.cpp expects certain tokens of a model that is called phi3.
      const at = (end: string) => join(place.path, `${i}${end}`);
      writeGgufCase(at(''), given);
      await convert(device, at(''), at('.gguf'), { type: 'F32' });
      const remove = [given.remove ?? 1];
      await prune(at('.gguf'), at('-pruned.gguf'), { device, remove, method: 'plain', report: 'none' });
      for (const path of [at('.gguf'), at('-pruned.gguf')]) {
        requests.push({ path, sequences: [ids], greedy: { ids: ids.slice(0, 4), count: 1 }, text: 'ab' });
        using model = await Model.load(device, path);
        own.push(logProbabilities((await logits(model, ids)).logits, ids));
      }
    }
    const theirs = askLlamaCpp(requests);
    for (const [i, { path }] of requests.entries()) {
      const name = `${Object.keys(cases)[i >> 1]}${path.endsWith('-pruned.gguf') ? ', pruned' : ''}`;
      const worst = maxAbsError(own[i]!, theirs[i]!.logProbabilities[0]!);
      console.log(`${name}: log-probabilities differ by ${worst.toExponential(1)} at most`);
      // llama.cpp looks GELU up in a table of f16.
      if (!(worst < (/gemma|falcon|neox|starcoder|phi\b/.test(name) ? 1e-2 : 1e-4))) wrong.push(name);
    }
    assert.equal(wrong, []);
  });
}

test.run();
