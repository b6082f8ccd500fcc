import { parseGgufHeader } from '../../../model/gguf/header.js';
import { numberToBytes, type ValueType, valueTypes } from '../../../model/gguf/values.js';
import type { Random } from '../random.js';
import type { Mutator } from '../target.js';
import { mutateBytes } from './bytes.js';
import { oddNumbers, oddTexts } from './text.js';

type Value = number | boolean | string | List;
interface List {
  of: ValueType;
  items: Value[];
  /** Number of items that the file claims. */
  length: number;
}
interface Entry {
  key: string;
  type: ValueType;
  value: Value;
}
interface TensorEntry {
  name: string;
  shape: number[];
  type: number;
  offset: number;
}
interface File {
  version: number;
  entries: Entry[];
  tensors: TensorEntry[];
  data: Uint8Array;
  tensorCount: number;
  entryCount: number;
}

/** Pieces of bytes; numbers become what the format can hold of them. */
const number = (value: number, type: Exclude<ValueType, 'bool' | 'string' | 'array'>): Uint8Array => {
  if (type === 'u64' || type === 'i64') {
    const bytes = Buffer.alloc(8);
    const whole = Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
    bytes.writeBigUInt64LE(BigInt.asUintN(64, whole));
    return bytes;
  }
  return numberToBytes(value, type);
};
const u32 = (value: number) => number(value, 'u32');
const u64 = (value: number) => number(value, 'u64');
const string = (text: string): Uint8Array => {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
};

function encode(type: ValueType, value: Value): Uint8Array {
  if (type === 'string') return string(`${value}`);
  if (type === 'bool') return Uint8Array.of(Number(value));
  if (type !== 'array') return number(Number(value), type);
  const { of, items, length } =
    typeof value === 'object' ? value : { of: 'u32' as const, items: [], length: 0 };
  return Buffer.concat([u32(valueTypes.indexOf(of)), u64(length), ...items.map(item => encode(of, item))]);
}

function write({ version, entries, tensors, data, tensorCount, entryCount }: File): Uint8Array {
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    ...[u32(version), u64(tensorCount), u64(entryCount)],
    ...entries.map(({ key, type, value }) =>
      Buffer.concat([string(key), u32(valueTypes.indexOf(type)), encode(type, value)]),
    ),
    ...tensors.map(({ name, shape, type, offset }) =>
      Buffer.concat([string(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]),
    ),
  ]);
  return Buffer.concat([header, new Uint8Array((32 - (header.length % 32)) % 32), data]);
}

function read(input: Uint8Array): File {
  const { version, metadata, tensors } = parseGgufHeader(input, input.length, '');
  const start = Math.min(...tensors.map(({ begin }) => begin));
  const entries = [...metadata].map(([key, { type, value }]): Entry => {
    if (type !== 'array') return { key, type, value };
    return {
      key,
      type,
      value: { of: value.of, items: [...value.values()] as Value[], length: value.length },
    };
  });
  return {
    version,
    entries,
    tensors: tensors.map(({ name, shape, type, begin }) => ({
      ...{ name, type: type.id, offset: begin - start },
      shape: [...shape].reverse(),
    })),
    data: input.slice(start),
    tensorCount: tensors.length,
    entryCount: entries.length,
  };
}

const architectures = [
  'llama',
  'mistral',
  'qwen2',
  'qwen3',
  'smollm3',
  'gemma2',
  'gemma3',
  'phi3',
  'falcon',
  'gptneox',
];

function oddValue(type: ValueType, random: Random): Value {
  if (type === 'string')
    return random.pick([...oddTexts, ...architectures, 'gpt2', 'yarn', 'linear', 'llama-bpe']);
  if (type === 'bool') return random.pick([0, 1, 2]);
  if (type !== 'array') return random.pick(oddNumbers) * random.pick([1, 1, -1]);
  const of = random.pick(valueTypes.filter(item => item !== 'array'));
  const items = Array.from({ length: random.size(8) }, () => oddValue(of, random));
  return { of, items, length: items.length };
}

function changeList(list: List, random: Random): void {
  const at = random.below(list.items.length);
  random.pick([
    () => (list.items[at] = oddValue(list.of, random)),
    () => {
      list.items = list.items.slice(0, at);
      list.length = list.items.length;
    },
    () => (list.length = random.pick(oddNumbers)),
    () => {
      list.of = random.pick(valueTypes);
    },
    () => {
      list.items = [...list.items, ...list.items];
      list.length = list.items.length;
    },
  ])();
}

const changes: readonly ((file: File, random: Random) => void)[] = [
  (file, random) => {
    const entry = random.pick(file.entries);
    if (typeof entry.value === 'object' && random.chance(0.7)) changeList(entry.value, random);
    else entry.value = oddValue(entry.type, random);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    entry.type = random.pick(valueTypes);
    entry.value = oddValue(entry.type, random);
  },
  (file, random) => {
    file.entries.splice(random.below(file.entries.length), 1);
    file.entryCount = file.entries.length;
  },
  (file, random) => {
    const [from, to] = ['llama', random.pick(architectures)] as const;
    for (const entry of file.entries) {
      entry.key = entry.key.replace(`${from}.`, `${to}.`);
      if (entry.key === 'general.architecture') entry.value = to;
    }
  },
  (file, random) => {
    random.pick(file.entries).key = random.pick([...oddTexts, random.pick(file.entries).key]);
  },
  (file, random) => {
    const tensor = random.pick(file.tensors);
    random.pick([
      () => (tensor.shape[random.below(tensor.shape.length)] = random.pick(oddNumbers)),
      () => (tensor.type = random.pick([...Array(42).keys(), 255, 2 ** 31])),
      () => (tensor.offset = random.pick([...oddNumbers, tensor.offset + 32, tensor.offset + 1])),
      () => (tensor.name = random.pick([...oddTexts, random.pick(file.tensors).name])),
      () => tensor.shape.push(1),
      () => (tensor.shape = tensor.shape.slice(1)),
    ])();
  },
  (file, random) => {
    if (random.chance(0.5)) file.tensorCount = random.pick(oddNumbers);
    else file.entryCount = random.pick(oddNumbers);
  },
  (file, random) => {
    file.tensors.splice(random.below(file.tensors.length), 1);
    file.tensorCount = file.tensors.length;
  },
];

/** Changes metadata, descriptions of tensors, types, counts and lengths of a GGUF file; now and then any bytes. */
export const mutateGguf: Mutator = (input, random) => {
  if (random.chance(0.25)) return mutateBytes(input, random);
  let file: File;
  try {
    file = read(input);
  } catch {
    // An earlier change has broken it.
    return mutateBytes(input, random);
  }
  if (file.entries.length === 0 || file.tensors.length === 0) return mutateBytes(input, random);
  random.pick(changes)(file, random);
  return write(file);
};
