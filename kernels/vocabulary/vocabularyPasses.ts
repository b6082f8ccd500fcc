import { ensure, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { scale } from '../elementwise/elementwise.js';
import { softcapBackward } from '../elementwise/softcap.js';
import { matmul } from '../matmul/matmul.js';
import { checkMatrix, checkTensor, floats } from '../shared/checks.js';
import { tileRows } from '../shared/rowTiles.js';
import { type LogitForm, logitTile } from './logitTile.js';
import { tileColumns } from './logLikelihood.js';

/**
 * Hidden states after the final norm, [T, D] f32, the output head of one model, [V, D] f32, f16 or bf16, and what it does
 * to its logits.
 */
export interface Predictions {
  hidden: Tensor;
  head: Tensor;
  form?: LogitForm;
}

/** Where a loss puts its gradients: that of the hidden states [T, D] is written, that of the head [V, D] added; f32. */
export interface LossGradients {
  hidden?: Tensor | undefined;
  head?: Tensor | undefined;
}

/** Logits [T, columns] of the tokens from `start` of the vocabulary on, one tensor for each model. */
export interface VocabularyTile {
  start: number;
  columns: number;
  /** Which of the tiles. */
  index: number;
  first: boolean;
  last: boolean;
  logits: readonly Tensor[];
}

/** What is done with each tile of logits. */
export interface VocabularyPasses {
  /** Called once, with the number of tiles: what is done with each as it is computed. It may change the logits. */
  begin(tiles: number): (tile: VocabularyTile) => void;
  /** After all that: turns the first model's logits, as computed or as they were left, into their gradient. */
  slope?(tile: VocabularyTile): void;
}

/** Short tiles keep the sums short: their rounding errors enter KL multiplied by the size of the differences. */
const MOST_COLUMNS = 4096;

/** Shapes of the predictions of several models on the same tokens. @throws RmError INVALID_ARGUMENT. */
export function checkPredictions(
  kernel: string,
  models: Readonly<Record<string, Predictions>>,
): { tokens: number; vocabulary: number } {
  const { hidden, head } = Object.values(models)[0]!;
  const [tokens] = checkMatrix(kernel, 'hidden', hidden);
  const [vocabulary] = checkMatrix(kernel, 'head', head, floats);
  for (const [name, model] of Object.entries(models)) {
    checkTensor(kernel, `head of ${name}`, model.head, [vocabulary, model.head.columns], floats);
    checkTensor(kernel, `hidden of ${name}`, model.hidden, [tokens, model.head.columns]);
  }
  ensure(vocabulary > 0, `${kernel}: the output head has no rows`, 'Pass the head of a model.');
  return { tokens, vocabulary };
}

/**
 * Runs a loss of next tokens over tiles of the vocabulary: logits = hidden head^T of every model, once to
 * begin with and, where gradients are asked for, again for the slopes, which become
 *   gradients.hidden = slopes head,   gradients.head += slopes^T hidden   of the first model.
 * with the slope of the model's `form`. Of logits no more than one tile a model is stored (two of a model that caps them),
 * at most 64 MiB each unless there are over 65,536 tokens.
 */
export function vocabularyPasses(
  rec: Recorder,
  models: readonly Predictions[],
  { begin, slope }: VocabularyPasses,
  gradients: LossGradients = {},
): void {
  const { hidden, head, form } = models[0]!;
  const factor = form?.factor ?? 1;
  const tokens = hidden.rowCount;
  const vocabulary = head.rowCount;
  if (gradients.hidden) checkTensor('loss', 'gradient of hidden', gradients.hidden, hidden.shape);
  if (gradients.head) checkTensor('loss', 'gradient of head', gradients.head, head.shape);
  using scope = new Scope(hidden.device);
  const most = tileColumns(tokens, MOST_COLUMNS);
  const heads = [...models.map(model => model.head), ...(gradients.head ? [gradients.head] : [])];
  const step = Math.min(...heads.map(matrix => tileRows(matrix, most)));
  const scratch = models.map(() => scope.tensor([tokens * step], 'f32', 'tile of logits'));
  const forTiles = (visit: (tile: VocabularyTile) => void) => {
    for (let start = 0; start < vocabulary; start += step) {
      const columns = Math.min(step, vocabulary - start);
      const logits = scratch.map(all => all.rows(0, tokens * columns).reshape([tokens, columns]));
      const index = start / step;
      visit({ start, columns, index, first: index === 0, last: start + columns === vocabulary, logits });
    }
  };
  const compute = ({ start, columns, logits }: VocabularyTile) =>
    models.forEach((model, i) => {
      logitTile(rec, model.hidden, model.head.rows(start, columns), logits[i]!, model.form);
    });
  const visit = begin(Math.ceil(vocabulary / step));
  forTiles(tile => {
    compute(tile);
    visit(tile);
  });
  if (!slope || (!gradients.hidden && !gradients.head)) return;
  const capped = form?.softcap ? scope.tensor([tokens * step], 'f32', 'capped logits') : undefined;
  forTiles(tile => {
    const { start, columns, first, last } = tile;
    // Of a single tile the logits are still there, unless the slope of a cap needs them as they were.
    if (!(first && last) || capped) compute(tile);
    const slopes = tile.logits[0]!;
    if (capped) rec.copy(slopes, capped.rows(0, slopes.size));
    slope(tile);
    if (capped)
      softcapBackward(rec, capped.rows(0, slopes.size).reshape(slopes.shape), slopes, form!.softcap!, factor);
    else if (factor !== 1) scale(rec, slopes, factor);
    if (gradients.hidden) {
      matmul(rec, slopes, head.rows(start, columns), gradients.hidden, { accumulate: !first });
    }
    if (gradients.head) {
      const target = gradients.head.rows(start, columns);
      matmul(rec, slopes, hidden, target, { transposeA: true, accumulate: true });
    }
  });
}
