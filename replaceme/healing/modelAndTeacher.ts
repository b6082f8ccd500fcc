import type { Device } from '../../engine/index.js';
import { Model, openCheckpoint } from '../../model/index.js';
import type { HealOptions } from '../options/healSettings.js';
import { runHooks } from '../run/runHooks.js';
import type { HealRequest } from './healRequest.js';
import { tensorsOfTeacher } from './teacher.js';

/** A model to heal and the model that teaches it. */
export interface ModelAndTeacher extends Disposable {
  readonly model: Model;
  readonly teacher: Model | undefined;
}

/**
 * Loads the teacher, where there is one, then the model, which shares the teacher's tensors where they are equal.
 *
 * @throws RmError as Model.load.
 */
export async function loadModelAndTeacher(
  from: string,
  options: HealOptions,
  { arch, cut }: HealRequest,
  device: Device,
): Promise<ModelAndTeacher> {
  const hooks = runHooks(options);
  if (options.teacher === undefined) {
    const model = await Model.load(device, from, hooks);
    return { model, teacher: undefined, [Symbol.dispose]: () => model.dispose() };
  }
  const teacher = await Model.load(device, options.teacher, hooks);
  const checkpoints = [await openCheckpoint(options.teacher), await openCheckpoint(from)] as const;
  try {
    const keptLayers = cut?.keptLayers ?? Array.from({ length: arch.layers }, (_, layer) => layer);
    const reuse = tensorsOfTeacher(teacher, ...checkpoints, keptLayers);
    const model = await Model.load(device, from, { ...hooks, reuse });
    return {
      ...{ model, teacher },
      [Symbol.dispose]: () => {
        model.dispose();
        teacher.dispose();
      },
    };
  } catch (error) {
    teacher.dispose();
    throw error;
  } finally {
    for (const checkpoint of checkpoints) await checkpoint.close();
  }
}
