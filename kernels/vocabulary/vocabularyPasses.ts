import { ensure, type Recorder, Scope, settings, type Tensor } from '../../engine/index.js';
import { scale, softcapBackward } from '../map/named.js';
import { matmul } from '../matmul/matmul.js';
import { columnSums } from '../reduce/named.js';
import { aTensor, checkMatrix, checkTensor, floats, maybeTensor } from '../shared/checks.js';
import { tileRows } from '../shared/rowTiles.js';
import { type LogitForm, logitTile, maybeLogitForm } from './logitTile.js';
import { tileColumns } from './logLikelihood.js';

/**
 * The next-token predictions of a model, before the logits: hidden states after the final norm [T, D] f32, output head
 * [V, D] f32, f16 or bf16, its bias [V] f32 if it has one, and how the model scales and caps its logits.
 */
export interface Predictions {
  hidden: Tensor;
  head: Tensor;
  bias?: Tensor | undefined;
  form?: LogitForm;
}

/** The form of `Predictions`. */
export const thePredictions = settings<Predictions>({
  hidden: aTensor,
  head: aTensor,
  bias: maybeTensor,
  form: maybeLogitForm,
});

/**
 * The gradients that a loss computes if you pass them: hidden [T, D] is overwritten, head [V, D] and its bias [V]
 * accumulated; f32.
 */
export interface LossGradients {
  hidden?: Tensor | undefined;
  head?: Tensor | undefined;
  bias?: Tensor | undefined;
}

/** The form of `LossGradients`. */
export const theGradients = settings<LossGradients>({
  hidden: maybeTensor,
  head: maybeTensor,
  bias: maybeTensor,
});

/** Logits [T, columns] of the vocabulary from token `start` on, one tensor per model. */
interface VocabularyTile {
  start: number;
  columns: number;
  /** Number of the tile, from 0. */
  index: number;
  first: boolean;
  last: boolean;
  logits: readonly Tensor[];
}

/** The work of a loss on each tile of logits. */
interface VocabularyPasses {
  /** Called once with the number of tiles. The first pass calls the result for each tile; it may change the logits. */
  begin(tiles: number): (tile: VocabularyTile) => void;
  /** The second pass: turns the first model's logits, recomputed or as the first pass left them, into their gradient. */
  slope?(tile: VocabularyTile): void;
}

/** Short tiles keep sums short: KL multiplies their rounding errors by the size of the logit differences. */
const MOST_COLUMNS = 4096;

/** Checks that several models predict the same tokens. @throws RmError INVALID_ARGUMENT when shapes do not fit. */
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
    if (model.bias) checkTensor(kernel, `bias of ${name}`, model.bias, [vocabulary]);
  }
  ensure(vocabulary > 0, `${kernel}: the output head has no rows`, 'Pass the head of a model.');
  return { tokens, vocabulary };
}

/**
 * Runs a next-token loss over tiles of the vocabulary. The first pass computes every model's logits = hidden head^T tile by
 * tile. If gradients are requested, a second pass computes them again and turns the first model's into slopes, through its
 * `form`: gradients.hidden = slopes head, gradients.head += slopes^T hidden, gradients.bias += their sums. It stores one tile of logits per model (two
 * for a first model that caps them), each of at most 64 MiB for up to 65,536 tokens.
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
  if (gradients.bias) checkTensor('loss', 'gradient of bias', gradients.bias, [vocabulary]);
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
      const { hidden, head, bias, form } = model;
      logitTile(rec, hidden, head.rows(start, columns), logits[i]!, form, bias?.rows(start, columns));
    });
  const visit = begin(Math.ceil(vocabulary / step));
  forTiles(tile => {
    compute(tile);
    visit(tile);
  });
  if (!slope || !Object.values(gradients).some(Boolean)) return;
  const capped = form?.softcap ? scope.tensor([tokens * step], 'f32', 'capped logits') : undefined;
  forTiles(tile => {
    const { start, columns, first, last } = tile;
    // A single tile still holds its logits, but the slope of a cap needs them unchanged.
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
    if (gradients.bias) {
      columnSums(rec, slopes, gradients.bias.rows(start, columns), { accumulate: true });
    }
  });
}
