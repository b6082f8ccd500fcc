import { isRecord } from '../files/jsonFile.js';
import { ConfigReader } from './configReader.js';

/** The part of a matrix that shares a scale; null: all rows, or all columns. */
export interface ScaleGrid {
  readonly rows: number | null;
  readonly columns: number | null;
}

/** How the weights of some modules were quantised. */
export interface WeightScheme {
  readonly type: 'int' | 'float';
  readonly bits: number;
  /** Grids that scales may have. */
  readonly grids: readonly ScaleGrid[];
  readonly symmetric: boolean;
}

/**
 * How a checkpoint stores compressed weights. `scaled`: `weight` or `weight_packed` with `weight_scale` beside it (FP8 of
 * transformers, compressed-tensors); `gptq` and `awq`: `qweight`, `qzeros`, `scales`; `mxfp4`: the experts of gpt-oss, `*_blocks`
 * and `*_scales`.
 */
export type CompressedLayout =
  | { readonly kind: 'scaled'; readonly schemes: readonly WeightScheme[] }
  | {
      readonly kind: 'gptq';
      readonly bits: number;
      readonly groupSize: number | null;
      /** Whether stored zeros are one too small (the first version of the format). */
      readonly zerosLessOne: boolean;
      /** Whether modules may differ from `bits` and `groupSize`. */
      readonly varied: boolean;
    }
  | { readonly kind: 'awq'; readonly bits: 4; readonly groupSize: number | null }
  | { readonly kind: 'mxfp4' };

/** How a model's weights are compressed, as its config.json says. */
export interface Compression {
  /** For messages: "fp8", "gptq, 4 bits" ... */
  readonly label: string;
  readonly layout: CompressedLayout;
  /** Names of modules, or of what contains them, whose weights are stored whole. */
  readonly whole: readonly string[];
}

const original =
  'Use the f32, f16 or bf16 weights that it was made from; the card of the model names them as its base.';
const byTransformers =
  'Write it dequantised first, in Python: model = AutoModelForCausalLM.from_pretrained(path); model.dequantize().save_pretrained(folder).';

/** What to do about methods whose weights cannot be read here. */
const conversions: Readonly<Record<string, string>> = {
  bitsandbytes: byTransformers,
  higgs: byTransformers,
  hqq: `Dequantise it with hqq (HQQLinear.dequantize) and save that, or use the original weights. ${original}`,
  torchao: `Dequantise it with torchao (each weight has dequantize()) and save that, or use the original weights. ${original}`,
  'auto-round':
    'Export it once more with auto-round in the format auto_gptq or auto_awq, which can be read here.',
  bitnet: 'Use the weights that the model was trained with, which its authors publish as bf16.',
};

/** Fields under which configurations say how weights are compressed. */
export const compressionFields = ['quantization_config', 'compression_config'] as const;

/**
 * Reads how a model's weights are compressed; undefined if they are not. A model that also reads images may say it for its
 * language model only.
 *
 * @throws RmError UNSUPPORTED_FAMILY for a method that cannot be read, with what to do; CONFIG_INVALID.
 */
export function readCompression(config: ConfigReader): Compression | undefined {
  const field = compressionFields.find(name => config.get(name) !== undefined);
  if (field !== undefined) return compressionIn(config, field);
  const text = partOf(config, 'text_config');
  return text && readCompression(text);
}

/** An object within a config.json, of which no family need know the fields; undefined if it is none. */
function partOf(config: ConfigReader, field: string): ConfigReader | undefined {
  const value = config.get(field);
  return isRecord(value) ? new ConfigReader(value, config.path, `${field}.`) : undefined;
}

function compressionIn(config: ConfigReader, field: string): Compression {
  const settings = partOf(config, field);
  if (!settings) throw config.invalid(field, 'should be an object');
  const method = methodOf(settings, field);
  const read = Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (!read) {
    throw config.unsupported(
      field,
      `says that weights are quantised by ${method}, which cannot be read`,
      conversions[method] ?? original,
    );
  }
  return { ...read(settings, method), whole: wholeModules(settings) };
}

function methodOf(settings: ConfigReader, field: string): string {
  const stated = settings.get('quant_method');
  if (stated === undefined) {
    if (['load_in_4bit', 'load_in_8bit'].some(name => settings.get(name) !== undefined))
      return 'bitsandbytes';
    if (field === 'compression_config') return 'compressed-tensors';
  }
  const method = settings.text('quant_method').toLowerCase().replaceAll('_', '-');
  return /^bitsandbytes|^bnb/.test(method) ? 'bitsandbytes' : method;
}

/** Lists in which methods name the modules that they leave as they are. */
function wholeModules(settings: ConfigReader): string[] {
  return ['ignore', 'modules_to_not_convert', 'ignored_layers'].flatMap(field => {
    const names = settings.get(field);
    if (names === undefined) return [];
    if (Array.isArray(names) && names.every(name => typeof name === 'string')) return names as string[];
    throw settings.invalid(field, 'should be a list of names of modules');
  });
}

type Read = (settings: ConfigReader, method: string) => Omit<Compression, 'whole'>;

const methods: Readonly<Record<string, Read>> = {
  fp8: (settings, method) => scaledFloats(settings, method, [128, 128]),
  mxfp8: (settings, method) => scaledFloats(settings, method, [1, 32]),
  'fbgemm-fp8': () => ({
    label: 'fbgemm_fp8',
    layout: { kind: 'scaled', schemes: [{ ...FLOAT8, grids: [CHANNEL] }] },
  }),
  'compressed-tensors': compressedTensors,
  gptq,
  awq,
  mxfp4: () => ({ label: 'mxfp4', layout: { kind: 'mxfp4' } }),
};

const TENSOR: ScaleGrid = { rows: null, columns: null };
const CHANNEL: ScaleGrid = { rows: 1, columns: null };
const FLOAT8 = { type: 'float', bits: 8, symmetric: true } as const;

/** FP8 as transformers stores it (`finegrained_fp8`); without blocks there is a scale for each matrix or row. */
function scaledFloats(settings: ConfigReader, label: string, usual: [number, number]) {
  const whole = settings.has('weight_block_size') && settings.get('weight_block_size') === undefined;
  const grids = whole ? [TENSOR, CHANNEL] : [blockGrid(settings, 'weight_block_size', usual)];
  return { label, layout: { kind: 'scaled', schemes: [{ ...FLOAT8, grids }] } } as const;
}

function blockGrid(settings: ConfigReader, field: string, usual?: [number, number]): ScaleGrid {
  const [rows, columns] = settings.get(field) === undefined && usual ? usual : settings.positives(field, 2);
  if (!Number.isInteger(rows) || !Number.isInteger(columns)) {
    throw settings.invalid(field, 'should be two whole numbers');
  }
  return { rows: rows!, columns: columns! };
}

/** A group size; null for -1: all columns. */
function groupSize(settings: ConfigReader, usual?: number): number | null {
  return settings.get('group_size') === -1 ? null : settings.count('group_size', usual);
}

/** Formats of compressed-tensors that can be read. */
const formats = [
  ...['pack-quantized', 'int-quantized', 'float-quantized', 'naive-quantized', 'mixed-precision'],
  ...['nvfp4-pack-quantized', 'mxfp4-pack-quantized', 'mxfp8-quantized'],
];

/** Source: compressed_tensors/quantization/quant_config.py, quant_args.py. */
function compressedTensors(settings: ConfigReader, label: string): Omit<Compression, 'whole'> {
  const format = formatOf(settings);
  const sparsity = settings.object('sparsity_config');
  if (sparsity.text('format', 'dense') !== 'dense') {
    throw sparsity.unsupported(
      'format',
      `is ${JSON.stringify(sparsity.get('format'))}: weights without their zeros cannot be read`,
      'Write it whole first: compressed-tensors decompresses it when transformers loads it; then save that.',
    );
  }
  if (!settings.object('transform_config').isEmpty) {
    throw settings.unsupported('transform_config', 'rotates weights, which is not undone here', original);
  }
  const groups = settings.object('config_groups');
  const schemes = Object.keys(settings.get('config_groups') ?? {}).flatMap(name => {
    const group = groups.object(name);
    if (group.get('weights') === undefined) return [];
    const own = group.get('format') === undefined ? format : formatOf(group);
    return [schemeOf(group.object('weights'), own)];
  });
  if (schemes.length === 0) {
    throw settings.invalid('config_groups', 'names no group whose weights are quantised');
  }
  const kinds = new Set(schemes.map(({ type, bits }) => `${type}${bits}`));
  return { label: `${label}, ${[...kinds].join(' and ')}`, layout: { kind: 'scaled', schemes } };
}

function formatOf(settings: ConfigReader): string {
  const format = settings.text('format', 'pack-quantized');
  if (formats.includes(format)) return format;
  throw settings.unsupported(
    'format',
    `is ${JSON.stringify(format)}; ${formats.join(', ')} can be read`,
    original,
  );
}

function schemeOf(weights: ConfigReader, format: string): WeightScheme {
  const bits = weights.count('num_bits', 8);
  const type = weights.text('type', 'int');
  const symmetric = weights.flag('symmetric', true);
  const known =
    (type === 'int' && bits >= 2 && bits <= 8) || (type === 'float' && (bits === 8 || bits === 4));
  if (!known) {
    const problem = `is ${bits}, of type ${JSON.stringify(type)}; "int" of 2 to 8 bits and "float" of 4 and 8 can be read`;
    throw weights.unsupported('num_bits', problem, original);
  }
  return { type: type as 'int' | 'float', bits, symmetric, grids: [gridOf(weights, format)] };
}

/** Where "strategy" is missing, compressed-tensors takes it from the sizes that are there. */
function gridOf(weights: ConfigReader, format: string): ScaleGrid {
  const sized = weights.get('group_size') === undefined ? 'tensor' : 'group';
  const usual = weights.get('block_structure') === undefined ? sized : 'block';
  const strategy = weights.text('strategy', usual);
  switch (strategy) {
    case 'tensor':
      return TENSOR;
    case 'channel':
      return CHANNEL;
    case 'block':
      return blockGrid(weights, 'block_structure');
    case 'group':
    case 'tensor_group':
      return { rows: 1, columns: groupSize(weights, format.startsWith('nvfp4') ? 16 : undefined) };
    default:
      throw weights.unsupported(
        'strategy',
        `is ${JSON.stringify(strategy)}; tensor, channel, group, tensor_group and block can be read`,
        original,
      );
  }
}

/** Source: GPTQModel (QUANT_CONFIG.md, utils/model.py convert_gptq_v1_to_v2_format). */
function gptq(settings: ConfigReader): Omit<Compression, 'whole'> {
  const bits = settings.count('bits');
  if (![2, 3, 4, 8].includes(bits)) {
    throw settings.unsupported('bits', `is ${bits}; 2, 3, 4 and 8 can be read`, original);
  }
  const format = settings.text('checkpoint_format', settings.text('format', 'gptq')).toLowerCase();
  if (!['gptq', 'gptq_v2'].includes(format) || settings.get('is_marlin_format') === true) {
    const problem = `is ${JSON.stringify(format)}; gptq and gptq_v2 can be read`;
    throw settings.unsupported('checkpoint_format', problem, original);
  }
  return {
    label: `gptq, ${bits} bits`,
    layout: {
      kind: 'gptq',
      bits,
      groupSize: groupSize(settings, 128),
      zerosLessOne: format === 'gptq',
      varied: !settings.object('dynamic').isEmpty,
    },
  };
}

/** Source: AutoAWQ (awq/modules/linear/gemm.py, awq/utils/packing_utils.py). */
function awq(settings: ConfigReader): Omit<Compression, 'whole'> {
  const bits = settings.count('bits', settings.count('w_bit', 4));
  if (bits !== 4) throw settings.unsupported('bits', `is ${bits}; 4 can be read`, original);
  const version = settings.text('version', settings.text('format', 'gemm')).toLowerCase();
  if (version !== 'gemm' || settings.get('backend') === 'llm-awq') {
    const problem = `is ${JSON.stringify(version)}; the layout "gemm" can be read`;
    throw settings.unsupported('version', problem, original);
  }
  const size =
    settings.get('group_size') === undefined && settings.get('q_group_size') !== undefined
      ? settings.count('q_group_size')
      : groupSize(settings, 128);
  return { label: 'awq, 4 bits', layout: { kind: 'awq', bits, groupSize: size } };
}
