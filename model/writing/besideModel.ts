import { basename, dirname, join } from 'node:path';
import { companionPath } from '../files/unfinishedOutput.js';

/** Path of a companion file of a GGUF file: "model.report.json" beside "model.gguf". */
export const besideModel = (model: string, name: string): string =>
  companionPath(join(dirname(model), basename(model).replace(/\.gguf$/i, '')), `.${name}`);
