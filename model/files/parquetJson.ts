import type { SchemaTree } from 'hyparquet';

const isFloat = ({ element }: SchemaTree): boolean =>
  element.type === 'FLOAT' || element.type === 'DOUBLE' || element.logical_type?.type === 'FLOAT16';

/** A number as Python writes it, so that 1.0 of a floating-point column is not taken for the integer 1. */
function numberText(value: number, float: boolean): string {
  if (Object.is(value, -0)) return float ? '-0.0' : '0';
  return float && Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value);
}

/** The part of the schema that describes the elements of a list, or the values of a map. */
function innerOf(schema: SchemaTree): SchemaTree {
  const [repeated] = schema.children;
  return repeated ? (repeated.children.at(-1) ?? repeated) : schema;
}

const memberOf = (schema: SchemaTree, name: string): SchemaTree | undefined =>
  schema.children.find(child => child.element.name === name);

/** A value of a parquet column as JSON text; dates in ISO form, bytes as a list of numbers. */
export function parquetJson(value: unknown, schema: SchemaTree): string {
  if (value === undefined || value === null) return 'null';
  if (typeof value === 'number') return numberText(value, isFloat(schema));
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) {
    const inner = schema.element.repetition_type === 'REPEATED' ? schema : innerOf(schema);
    return `[${value.map(item => parquetJson(item, inner)).join(',')}]`;
  }
  if (ArrayBuffer.isView(value)) return `[${Array.from(value as Uint8Array).join(',')}]`;
  if (typeof value !== 'object' || value instanceof Date) return JSON.stringify(value);
  const fields = Object.entries(value).map(
    ([name, item]) =>
      `${JSON.stringify(name)}:${parquetJson(item, memberOf(schema, name) ?? innerOf(schema))}`,
  );
  return `{${fields.join(',')}}`;
}
