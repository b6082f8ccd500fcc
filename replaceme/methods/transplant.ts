import type { Architecture } from '../../model/index.js';
import type { FitPass } from '../fits/fitPass.js';
import { refitLayer } from '../fits/refitLayer.js';
import type { RepairSettings } from '../fits/repair.js';
import { type LayerFit, repairInOrder } from '../fits/repairInOrder.js';
import { transplantCost } from '../fits/transplant/transplantCost.js';
import { type Transplant, transplantNeurons } from '../fits/transplant/transplantNeurons.js';
import { lastRemoved, type Window } from '../run/window.js';
import { type Method, settingsOf } from './method.js';
import { attentionStepOf, healing, layerFit, refit } from './refit.js';

/** Why neurons of several layers cannot stand in one MLP; undefined where they can. */
function refusal({ family, experts, activation, tensorNames }: Architecture): string | undefined {
  if (activation === 'xielu')
    return `neurons of ${family} models have an activation with weights of its own in each layer`;
  if (experts) return `a router chooses among the neurons of ${family} models`;
  const shared = tensorNames.layers.some(({ inputNorm, mlpNorm }) => mlpNorm && inputNorm === mlpNorm);
  if (shared)
    return `one norm serves attention and MLP in ${family} models, so its gain cannot go into the MLP`;
  const unbiased = tensorNames.layers.some(
    ({ mlpNormBias, gate, gateBias, upBias }) => mlpNormBias && !(upBias && (!gate || gateBias)),
  );
  return unbiased
    ? `the norm before the MLP has a bias in ${family} models, which their MLP has no bias to take over`
    : undefined;
}

async function fit(pass: FitPass, window: Window, settings: RepairSettings): Promise<LayerFit> {
  const { inputs, targets } = pass;
  let transplant: Transplant | undefined;
  const { tokenResidual, sinkResidual, ...fits } = await refitLayer(
    inputs,
    { output: (index, scope) => targets.state(index, scope) },
    {
      ...settings,
      attentionStep: attentionStepOf(inputs.model, window, settings),
      newMlp: async refitPass => {
        transplant = await transplantNeurons(pass, window, refitPass, settings.neurons ?? 'energy');
        return transplant.weights;
      },
    },
  );
  inputs.arriveAt(lastRemoved(window) + 1);
  const neurons = [...transplant!.perLayer].map(([layer, count]) => `${layer}: ${count}`).join(', ');
  return layerFit(fits, inputs.tokens, { neurons, tokenResidual, sinkResidual });
}

/** Fills the MLP of the layer that stays with neurons of the removed layers too, then fits its down_proj. */
export const transplant: Method = {
  name: 'transplant',
  summary:
    'refit, after the MLP of the layer that stays has taken over the best neurons of the removed layers',
  source: 'our own',
  selection: 'measured',
  reads: [...refit.reads!, ...settingsOf('transplant')],
  needsCalibration: true,
  changes: 'layers',
  refusal,
  fitCost: transplantCost,
  notSummed:
    'which neurons move is decided by running the same tokens through every refitted MLP of the window, and all sums of the ' +
    'fit depend on that choice',
  repair: (context, windows) =>
    repairInOrder(context, windows, (pass, window) => fit(pass, window, context.settings), undefined, {
      walks: true,
    }),
};

export const transplantHeal: Method = {
  ...transplant,
  name: 'transplant-heal',
  summary: 'transplant, then refit o_proj and down_proj of every later layer towards the original model',
  unhealed: transplant,
  repair: (context, windows) => transplant.repair(healing(context), windows),
};
