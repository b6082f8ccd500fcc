import { rm } from 'node:fs/promises';
import { Device } from '../engine/index.js';
import {
  type Checkpoint,
  evaluate,
  loadChatTemplate,
  loadTokenizer,
  logits,
  Model,
  modelFingerprint,
  openCheckpoint,
  openModelSource,
  verifyWritten,
  withModelOutput,
  writeModel,
} from '../model/index.js';
import { PrunedModel } from './activations/prunedModel.js';
import type { Role } from './evaluation/pruneEvaluation.js';
import { samplesOf } from './evaluation/samples.js';
import { healByGradient, healingWarnings } from './healing/gradientHealing.js';
import { healingSettings } from './healing/healingSettings.js';
import { readHealingTexts } from './healing/healingTexts.js';
import {
  checkHealRequest,
  type HealRequest,
  healingRecipe,
  healingSizes,
  healOutput,
} from './healing/healRequest.js';
import { tensorsOfTeacher } from './healing/teacher.js';
import type { HealOptions } from './options/healOptions.js';
import { exactnessWarnings, reportHead } from './report/head.js';
import { repeatOf } from './report/repeat.js';
import type { HealReport } from './report/schema/schema.js';
import { healSentence } from './report/sentence.js';
import { withoutPaths, writeDocumentation } from './report/write.js';
import { PhaseClock } from './run/phaseClock.js';
import { runHooks } from './run/runHooks.js';

/**
 * Heals the pruned model in folder `from` by gradient descent and writes it into the new folder (or GGUF file) `to`, in its own
 * number types and with nothing added to it. `to` appears only when it is complete and checked. On the way a checkpoint keeps the run.
 *
 * @throws RmError; DIVERGED where training makes the model worse, and see engine/errors.ts.
 */
export async function heal(from: string, to: string, given: HealOptions): Promise<HealReport> {
  const started = performance.now();
  const request = await checkHealRequest(from, to, given);
  const { arch } = request;
  const device = given.device ?? (await Device.open(given));
  const clock = new PhaseClock(device, started);
  try {
    const settings = healingSettings(request.asked, device, arch);
    const sizes = healingSizes(given, settings, device, arch);
    const tokenizer = await loadTokenizer(from);
    const reader = { tokenizer, chat: await loadChatTemplate(from, tokenizer) };
    const texts = await clock.during('calibrate', () =>
      readHealingTexts(reader, {
        ...{ files: given.data, textField: given.textField, heldOutFiles: given.heldOut },
        ...sizes,
      }),
    );
    const recipe = await healingRecipe(from, given, request, settings, sizes, texts);
    const source = await openModelSource(from);
    const checkpoint = await source.openCheckpoint();
    try {
      using models = await clock.during('load', () => loadModels(from, given, request, checkpoint, device));
      const { model, teacher } = models;
      const { resume = false, finish = false } = given;
      const { changes, record } = await clock.during('heal', () =>
        healByGradient({
          ...{ model, teacher, settings, layers: request.layers },
          ...{ training: texts.training, heldOut: texts.heldOut },
          kept: { path: request.checkpoint, recipe, resume, finish },
          ...runHooks(given),
        }),
      );
      using healed = new PrunedModel(model, [], changes);
      const sample = texts.heldOut[0]!.slice(0, 64);
      const outputsOf = async (of: Model) => (await logits(of, sample)).logits;
      const expected = await outputsOf(healed.model);
      const { evaluation, samples } = await clock.during('evaluate', async () => {
        const batchTokens = settings.microBatchTokens;
        const options = { batchTokens, ...(teacher && { against: teacher }), ...runHooks(given) };
        const roles: [Role, Model][] = [
          ...(teacher ? [['dense', teacher] as [Role, Model]] : []),
          ['result', healed.model],
        ];
        return {
          evaluation: await evaluate(healed.model, texts.heldOut, options),
          samples: await samplesOf(roles, reader, runHooks(given)),
        };
      });
      models.dispose();
      const report = await withModelOutput(to, await healOutput(from, given), async target => {
        await clock.during('write', () =>
          writeModel(
            { source, checkpoint, arch, keep: healed.keep, replacements: healed.replacements, device },
            target,
            {
              ...(given.maxShardBytes !== undefined && { maxShardBytes: given.maxShardBytes }),
              ...runHooks(given),
            },
          ),
        );
        const maxLogitDifference = await clock.during('verify', () =>
          verifyWritten(device, target, outputsOf, expected),
        );
        const { patched, keptLayers } = request.cut ?? { patched: record.layers, keptLayers: healed.keep };
        const found = {
          model: { path: from, fingerprint: await modelFingerprint(from), layers: arch.layers },
          ...(given.teacher !== undefined &&
            teacher && {
              teacher: {
                path: given.teacher,
                fingerprint: await modelFingerprint(given.teacher),
                layers: teacher.arch.layers,
              },
            }),
          healing: record,
          result: evaluation,
        };
        const report: HealReport = {
          ...(await reportHead(device, clock)),
          kind: 'heal',
          sentence: healSentence(found),
          repeat: repeatOf('heal', [from, to], given),
          warnings: [...healingWarnings(record), ...exactnessWarnings(device)],
          ...found,
          cut: { patched, keptLayers },
          recipe: { ...settings, ...sizes },
          data: { tokens: texts.tokens, sequences: texts.training.length, files: texts.files },
          output: { path: to },
          samples,
          verification: { tokens: sample.length, maxLogitDifference },
        };
        const published = withoutPaths(report, repeatOf('heal', [from, to], given, { published: true }));
        await writeDocumentation(to, target, published);
        device.check();
        given.signal?.throwIfAborted();
        return report;
      });
      // The model is there: nothing is left to go on with.
      await rm(request.checkpoint, { force: true });
      return report;
    } finally {
      await checkpoint.close();
    }
  } finally {
    if (!given.device) await device.close();
  }
}

/** The teacher, where there is one, and the model, which shares its tensors where they are equal. */
async function loadModels(
  from: string,
  given: HealOptions,
  { arch, cut }: HealRequest,
  checkpoint: Checkpoint,
  device: Device,
): Promise<{ model: Model; teacher: Model | undefined; dispose(): void; [Symbol.dispose](): void }> {
  const options = runHooks(given);
  if (given.teacher === undefined) {
    const model = await Model.load(device, from, options);
    return {
      ...{ model, teacher: undefined },
      dispose: () => model.dispose(),
      [Symbol.dispose]: () => model.dispose(),
    };
  }
  const teacher = await Model.load(device, given.teacher, options);
  const teachers = await openCheckpoint(given.teacher);
  try {
    const keptLayers = cut?.keptLayers ?? Array.from({ length: arch.layers }, (_, layer) => layer);
    const reuse = tensorsOfTeacher(teacher, teachers, checkpoint, keptLayers);
    const model = await Model.load(device, from, { ...options, reuse });
    const dispose = () => {
      model.dispose();
      teacher.dispose();
    };
    return { model, teacher, dispose, [Symbol.dispose]: dispose };
  } catch (error) {
    teacher.dispose();
    throw error;
  } finally {
    await teachers.close();
  }
}
