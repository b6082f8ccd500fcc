/**
 * Calls the public functions of model and replaceme with arguments that do not fit, as test/arguments/engine does for engine
 * and kernels, on the tiny model. Settings may have other names here: functions hand on those of a whole run. Costs 6 s.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { add } from '../../kernels/index.js';
import * as models from '../../model/public.js';
import * as replaceme from '../../replaceme/public.js';
import { workplace } from '../replaceme/workplace.js';
import { assertSameNames, callables, type Recipe, tryWrongArguments } from './wrongArguments.js';

/** Why these are not called. */
const notCalled: Readonly<Record<string, readonly string[]>> = {
  'for the plans of this package alone': ['Model.zeroLayer'],
  'no public constructor': ['Model', 'ReferenceStates', 'RequestCache'],
  'takes nothing': [
    ...['Batch.mutualRanges', 'Batch.dispose', 'DecodingSession.dispose', 'DecodingSession.settled'],
    ...['KvCache.dispose', 'Model.dispose'],
    ...[
      'ReferenceStates.save',
      'ReferenceStates.dispose',
      'RequestCache.close',
      'SpillFile.close',
      'builtInTasks',
    ],
  ],
};

test('wrong arguments: no raw error, no dead device, no silent result', async () => {
  process.env.HF_HUB_OFFLINE = '1';
  using place = await workplace();
  process.env.HF_HOME = place.path;
  const file = (name: string) => join(place.path, name);
  await using device = await Device.open();
  await using other = await Device.open();
  const own = new Scope(device);
  const scope = new Scope(device);
  const t = (shape: readonly number[], dtype: 'f32' | 'u32' = 'f32') => {
    const tensor = scope.tensor(shape, dtype, `${shape} ${dtype}`);
    device.recorder.clear(tensor);
    return tensor;
  };
  const model = await models.Model.load(device, place.model);
  const { arch } = model;
  const reader = await models.openTextReader(place.model);
  const { tokenizer, chat } = reader;
  const sequences = [
    [1, 2, 3],
    [4, 5],
  ];
  const batch = new models.Batch(device, [[1, 2, 3, 4]]);
  const reference = await models.ReferenceStates.of(model, sequences);
  const restored = await models.ReferenceStates.of(model, sequences);
  const [cache, places] = [new models.KvCache(device, arch, 8), new models.KvCache(device, arch, 8, 2)];
  const server = new models.ModelServer([{ name: 'a', model, reader }]);
  const answers = await models.RequestCache.open(file('answers'));
  const signal = new AbortController().signal;
  const onProgress = () => {};
  const sampling = { temperature: 1, topK: 2, topP: 0.9, seed: 1, repeatPenalty: 1.1 };
  const normal = { name: 'x', dtype: 'f32' as const, shape: [2], bytes: () => new Uint8Array(8) };
  const gradients = () => ({
    layers: new Map([[0, models.createLayerGradients(scope, model.weights.layers[0]!, ['down'])]]),
  });
  const ones = [{ layer: 2, count: 2 }];
  const call = (
    work: (...args: never[]) => unknown,
    args: () => readonly unknown[],
    refusedOnly = false,
  ): Recipe => ({ call: work, args, refusedOnly });
  const method = (of: object, name: string, args: () => readonly unknown[]): Recipe =>
    call((...given: never[]) => (of as Record<string, (...args: never[]) => unknown>)[name]!(...given), args);
  const m = models;
  const make =
    (kind: unknown) =>
    (...args: never[]) =>
      new (kind as new (...args: never[]) => unknown)(...args);

  const ofModel: Record<string, Recipe> = {
    Batch: call(make(m.Batch), () => [device, sequences, { lengths: [2, 2], shared: [0, 0] }]),
    'Batch.ranges': { ...method(batch, 'ranges', () => [2]), nullable: ['0'] },
    'Batch.positionsApart': method(batch, 'positionsApart', () => [2, 1]),
    'Batch.queryFactors': {
      ...method(batch, 'queryFactors', () => [{ beta: 1, every: 2 }]),
      nullable: ['0'],
    },
    DecodingSession: call(make(m.DecodingSession), () => [model, { texts: 2, cacheBytes: 1e6 }]),
    'DecodingSession.continue': call(
      (...args: never[]) => {
        const session = new m.DecodingSession(model);
        return Object.assign(session.continue(...(args as unknown as Parameters<typeof session.continue>)), {
          dispose: () => session.dispose(),
        });
      },
      () => [
        [1, 2, 3],
        { maxTokens: 2, eosIds: [9], signal, ended: () => false, sample: () => 1, ...sampling },
      ],
    ),
    ModelServer: call(make(m.ModelServer), () => [
      [{ name: 'a', model, reader, sampling }],
      { texts: 2, cacheBytes: 1e6, page: '', hosts: ['a'], bodyBytes: 1000, onError: () => {} },
    ]),
    'ModelServer.listen': { ...method(server, 'listen', () => [0, '127.0.0.1']), refusedOnly: true },
    'ModelServer.close': { ...method(server, 'close', () => [0]), refusedOnly: true },
    writeText: call(m.writeText, () => [
      new m.DecodingSession(model),
      tokenizer,
      [1, 2, 3],
      { maxTokens: 2, stop: ['x'], signal, sample: () => 1, ...sampling },
    ]),
    KvCache: call(make(m.KvCache), () => [device, arch, 4, 1]),
    'KvCache.layer': method(cache, 'layer', () => [0]),
    'KvCache.states': method(cache, 'states', () => [0]),
    'KvCache.places': method(places, 'places', () => [[0, 1]]),
    'KvCache.grow': method(cache, 'grow', () => [8]),
    'KvCache.resize': method(places, 'resize', () => [0, 8]),
    'KvCache.roomOf': method(places, 'roomOf', () => [0]),
    'KvCache.copy': method(places, 'copy', () => [0, 1, 0]),
    'KvCache.truncate': method(places, 'truncate', () => [0, 1]),
    'KvCache.requireRoom': method(cache, 'requireRoom', () => [batch]),
    'KvCache.advance': method(cache, 'advance', () => [batch]),
    'Model.load': call(m.Model.load, () => [device, place.model, { dtype: 'f32', onProgress }]),
    'Model.loadLayer': method(model, 'loadLayer', () => [0, 1]),
    'Model.typeOf': method(model, 'typeOf', () => ['model.norm.weight']),
    'Model.withLayers': { ...method(model, 'withLayers', () => [[0, 1], {}]), takes: { '1': ['object'] } },
    'ReferenceStates.of': call(m.ReferenceStates.of, () => [
      model,
      sequences,
      { batchTokens: 8, stateBytes: 0, onProgress, signal },
    ]),
    'ReferenceStates.restore': method(restored, 'restore', () => [{ depths: [], states: [] }]),
    'ReferenceStates.finalHidden': method(reference, 'finalHidden', () => [model, 0, batch]),
    'RequestCache.open': call(m.RequestCache.open, () => [file('more')]),
    'RequestCache.get': method(answers, 'get', () => ['x']),
    'RequestCache.getText': method(answers, 'getText', () => ['x']),
    'RequestCache.add': method(answers, 'add', () => [[['x', { logLikelihood: -1, isGreedy: true }]]]),
    'RequestCache.addTexts': method(answers, 'addTexts', () => [[['x', 'y']]]),
    SpillFile: call(make(m.SpillFile), () => [file('spill')]),
    'SpillFile.add': {
      ...method(new m.SpillFile(file('spilled')), 'add', () => [t([4])]),
      harmless: ['foreign'],
    },
    'SpillFile.addBytes': {
      ...method(new m.SpillFile(file('spilled2')), 'addBytes', () => [
        [2],
        'f32',
        (async function* () {
          yield new Uint8Array(8);
        })(),
      ]),
      takes: { '2': ['list'] },
    },
    architectureFromConfig: call(
      m.architectureFromConfig,
      () => [{ ...(arch as object) }, 'config.json', () => true],
      true,
    ),
    convert: call(
      m.convert,
      () => [
        device,
        place.model,
        file('converted'),
        { type: 'f32', maxShardBytes: 1e9, force: false, onProgress },
      ],
      true,
    ),
    createLayerGradients: call(
      m.createLayerGradients,
      () => [scope, model.weights.layers[0], ['down']],
      true,
    ),
    defaultBatchTokens: call(m.defaultBatchTokens, () => [device, arch]),
    downloadModel: call(m.downloadModel, () => ['a/b', { onProgress, signal }], true),
    encodeDocument: call(m.encodeDocument, () => [{ text: 'x' }, tokenizer, chat]),
    evaluate: call(
      m.evaluate,
      () => [
        model,
        sequences,
        {
          against: model,
          prefix: reference,
          batchTokens: 8,
          onLosses: () => {},
          onAgainstLosses: () => {},
          onProgress,
          signal,
        },
      ],
      true,
    ),
    evaluateTask: call(m.evaluateTask, () => [model, tokenizer, {}, {}], true),
    finalNorm: call(m.finalNorm, () => [model, t([2, arch.hidden])]),
    findTasks: call(m.findTasks, () => [['arc'], {}], true),
    forward: call(m.forward, () => [
      model,
      batch,
      { from: 1, input: t([4, arch.hidden]), to: 2, tap: () => {}, edit: { mlp: () => {} }, lastToken: true },
    ]),
    generate: call(m.generate, () => [
      model,
      [1, 2, 3],
      { maxTokens: 2, eosIds: [9], signal, onToken: () => {}, ...sampling },
    ]),
    generationDefaults: call(m.generationDefaults, () => [place.model, {}]),
    generationHealth: call(m.generationHealth, () => [
      model,
      reader,
      { prompts: ['x'], tokens: 2, onProgress, signal },
    ]),
    groupSequences: {
      ...call(m.groupSequences, () => [[{ length: 2 }], 8]),
      takes: { '0.0': ['list'] },
    },
    imageEmbeddings: call(m.imageEmbeddings, () => [model, [[1]]], true),
    loadChatTemplate: call(m.loadChatTemplate, () => [place.model, tokenizer, {}]),
    loadTokenizer: call(m.loadTokenizer, () => [place.model]),
    locateModel: call(m.locateModel, () => [place.model]),
    logits: call(m.logits, () => [model, [1, 2, 3], { edit: { heads: () => {} } }]),
    tokenLogits: call(m.tokenLogits, () => [model, t([2, arch.hidden])]),
    lossAndGradients: call(
      m.lossAndGradients,
      () => [
        model,
        batch,
        { kind: 'crossEntropy', targets: t([4], 'u32') },
        t([4]),
        t([4]),
        gradients(),
        { from: 0 },
      ],
      true,
    ),
    modelWarnings: call(m.modelWarnings, () => [place.model]),
    openCheckpoint: call(m.openCheckpoint, () => [place.model, 'f32']),
    openHeaders: call(m.openHeaders, () => [place.model, arch, 'f32'], true),
    openModelSource: call(m.openModelSource, () => [place.model]),
    openSafetensors: call(m.openSafetensors, () => [place.model]),
    openTextReader: call(m.openTextReader, () => [place.model, {}]),
    prepareTask: call(m.prepareTask, () => [{}, {}], true),
    readArchitecture: call(m.readArchitecture, () => [place.model]),
    readDocuments: call(m.readDocuments, () => [place.calibration, {}]),
    readImageProcessor: call(m.readImageProcessor, () => [place.model, 8], true),
    readTaskFile: call(m.readTaskFile, () => [file('task.yaml')], true),
    scoreRequests: call(m.scoreRequests, () => [model, [{ context: [1], continuation: [2] }], {}], true),
    showImages: call(m.showImages, () => [model, {}, ['x.png'], { onProgress, signal }], true),
    tokenSequences: call(
      m.tokenSequences,
      () => [[{ text: 'x' }], tokenizer, chat, { sequenceLength: 8, tokens: 8 }],
      true,
    ),
    writeSafetensors: call(
      m.writeSafetensors,
      () => [file('out'), [normal], { maxShardBytes: 1e9, onProgress }],
      true,
    ),
    writeSafetensorsFile: {
      ...call(
        m.writeSafetensorsFile,
        () => [file('out.safetensors'), [normal], () => {}, { format: 'pt' }],
        true,
      ),
      takes: { '3': ['object'] },
    },
  };
  const r = replaceme;
  const options = {
    layers: 2,
    method: 'replaceme-ls',
    calibration: [place.calibration],
    tokens: 64,
    sequenceLength: 16,
  };
  const ofReplaceme: Record<string, Recipe> = {
    accumulateStatistics: call(
      r.accumulateStatistics,
      () => [place.model, file('statistics'), options],
      true,
    ),
    bestRows: call(r.bestRows, () => [{}], true),
    formatComparison: call(r.formatComparison, () => [{}], true),
    checkCompareRequest: call(
      r.checkCompareRequest,
      () => [place.model, { ...options, methods: ['refit'] }],
      true,
    ),
    checkHealRequest: call(r.checkHealRequest, () => [place.model, file('healed'), options], true),
    checkPruneRequest: call(r.checkPruneRequest, () => [place.model, place.out, options, 'needed']),
    compare: call(r.compare, () => [place.model, options], true),
    describeWindows: call(r.describeWindows, () => [ones, 6]),
    keptLayers: call(r.keptLayers, () => [ones, 6]),
    heal: call(r.heal, () => [place.model, file('healed'), options], true),
    mergeStatistics: call(
      r.mergeStatistics,
      () => [file('merged'), ['a', 'b'], { force: false, onProgress, signal }],
      true,
    ),
    planHealing: call(r.planHealing, () => [place.model, file('healed'), options], true),
    planPrune: call(r.planPrune, () => [place.model, options], true),
    prune: call(r.prune, () => [place.model, place.out, options], true),
    readCalibration: call(
      r.readCalibration,
      () => [tokenizer, chat, { files: [place.calibration], tokens: 8, sequenceLength: 4, seed: 0 }],
      true,
    ),
    shippedCalibration: call(r.shippedCalibration, () => [true]),
    shippedPath: call(r.shippedPath, () => ['texts']),
    windowDistances: call(r.windowDistances, () => [model, [{ sequences, weight: 1 }], [1], {}], true),
    windowMap: call(r.windowMap, () => [model, [{ sequences, weight: 1 }], {}], true),
  };

  // Their options may be objects of any class.
  for (const [name, place] of [
    ['windowDistances', '3'],
    ['windowMap', '2'],
  ] as const)
    ofReplaceme[name] = { ...ofReplaceme[name]!, takes: { [place]: ['object'] } };
  // Those that run a model, read one or start a process are only called where they must refuse.
  const slow =
    'DecodingSession.continue Model.load ReferenceStates.of generate generationHealth loadChatTemplate';
  const slower =
    'writeText loadTokenizer modelWarnings openTextReader encodeDocument logits readDocuments checkPruneRequest';
  for (const name of `${slow} ${slower}`.split(' ')) {
    const recipes = name in ofModel ? ofModel : ofReplaceme;
    recipes[name] = { ...recipes[name]!, refusedOnly: true };
  }

  const without = Object.values(notCalled).flat();
  const known = [...without, ...Object.keys(ofModel), ...Object.keys(ofReplaceme)];
  const exported = [...callables(models), ...callables(replaceme)];
  assertSameNames(known, exported);

  mkdirSync(file('empty'));
  const others = [t([4]), t([4, arch.hidden]), t([4], 'u32')].map(tensor => own.own(scope.release(tensor)));
  using foreign = tensorFrom(other, [1, 2, 3, 4], [4], 'foreign');
  const disposed = Tensor.create(device, [4], 'f32', 'disposed');
  disposed.dispose();
  const check = own.own(tensorFrom(device, [1, 2, 3], [3]));
  const sum = own.tensor([3]);
  const after = async (): Promise<string | undefined> => {
    scope.dispose();
    try {
      add(device.recorder, check, check, sum);
      const values = [...(await downloadF32(sum))];
      return values.join() === '2,4,6' ? undefined : `1 + 1 = ${values}`;
    } catch (error) {
      return `the device failed: ${(error as Error).message}`;
    }
  };
  const before = readdirSync(place.path);
  const started = performance.now();
  const outcome = await tryWrongArguments({ ...ofModel, ...ofReplaceme }, others, [foreign, disposed], {
    after,
    strict: false,
    pairs: Number(process.env.RM_FUZZ_PAIRS ?? 2),
    seed: Number(process.env.RM_FUZZ_SEED ?? 1),
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `${exported.length - without.length} functions, ${outcome.calls} calls, ${outcome.faults.size} faults, ${seconds} s`,
  );
  for (const fault of outcome.faults.values()) console.log(fault);
  assert.equal(
    readdirSync(place.path).filter(name => !before.includes(name)),
    ['answers'],
    'what was written',
  );
  for (const each of [own, reference, restored, cache, places, batch, model]) each.dispose();
  assert.is(outcome.faults.size, 0);
});

test.run();
