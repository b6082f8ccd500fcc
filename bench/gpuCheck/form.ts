import {
  anything,
  type Form,
  finite,
  flag,
  listOf,
  oneOf,
  optional,
  orNull,
  record,
  tableOf,
  text,
} from '../../engine/index.js';
import { FORMAT, type GpuCheckReport, stepNames } from './report.js';

const table = record({
  title: text,
  columns: listOf(record({ title: text, align: optional(oneOf('left', 'right')) })),
  rows: listOf(listOf(text)),
});

const step = record({
  step: oneOf(...stepNames),
  status: oneOf('done', 'cut', 'failed', 'skipped'),
  seconds: finite(0),
  limitSeconds: finite(0),
  findings: listOf(record({ level: oneOf('wrong', 'warning', 'note'), text, fix: optional(text) })),
  metrics: listOf(
    record({
      ...{ name: text, unit: text, better: oneOf('higher', 'lower') },
      // JSON writes what is no number as null.
      value: orNull(finite()),
      predicted: optional(finite()),
    }),
  ),
  tables: listOf(table),
  details: tableOf(anything),
  stderr: optional(text),
});

/** The form of gpu-check.json, as far as it is read again. */
export const gpuCheckForm = record({
  format: oneOf(FORMAT),
  ...{ version: text, node: text, platform: text, date: text },
  ...{ budgetSeconds: finite(0), seconds: finite(0), complete: flag },
  adapter: orNull(record({ device: text, description: text })),
  steps: listOf(step),
}) as unknown as Form<GpuCheckReport>;
