/** The report of `bench -- peers`, and its tables for people. */
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { formatFields, formatTable } from '../../replaceme/report/text/textTable.js';
import { digits, left, right } from '../measure.js';
import type { Comparison } from './measure.js';
import type { ReplacemeComparison } from './replaceme.js';

export interface PeersReport {
  /** rm-engine's adapter; null if rm-engine did not run. */
  adapter: AdapterInfo | null;
  date: string;
  node: string;
  platform: string;
  /** Timed samples of every program; their median counts. */
  samples: number;
  /** Version and device of every program that ran. */
  programs: Record<string, { version: string; adapter: string }>;
  /** GFLOP/s by MxNxK. */
  matmul: Record<string, Comparison>;
  /** GFLOP/s by tokens x hidden x intermediate. */
  mlp: Record<string, Comparison>;
  /** GB/s, of batched products GFLOP/s, by operation. */
  operations: Record<string, Comparison>;
  /** tokens/s; `tokens` is the length of the prompt. */
  prefill: (Comparison & { tokens: number; long?: Comparison & { tokens: number } }) | null;
  /** tokens/s of `tokens` steps after a prompt of `prompt`. */
  decode: (Comparison & { tokens: number; prompt: number }) | null;
  replaceme?: ReplacemeComparison;
  /** The reason for each part that did not run. */
  skipped: Record<string, string>;
}

function comparisons(title: string, entries: readonly (readonly [string, Comparison])[]): string {
  if (entries.length === 0) return '';
  const names = (key: 'peers' | 'outside') => [
    ...new Set(entries.flatMap(([, comparison]) => Object.keys(comparison[key]))),
  ];
  const [peers, outside] = [names('peers'), names('outside')];
  const columns = [left(title), ...['rm-engine', ...peers, 'ratio', ...outside].map(right)];
  const cell = (rate: number | undefined | null) => (rate == null ? '-' : digits(rate));
  const rows = entries.map(([name, comparison]) => [
    name,
    cell(comparison.ours),
    ...peers.map(peer => cell(comparison.peers[peer])),
    cell(comparison.ratio),
    ...outside.map(other => cell(comparison.outside[other])),
  ]);
  return `\n${formatTable(columns, rows)}`;
}

export function formatReport(report: PeersReport): string {
  const { prefill, decode, replaceme } = report;
  const language: [string, Comparison][] = [];
  if (prefill) {
    language.push([`prefill ${prefill.tokens}`, prefill]);
    if (prefill.long) language.push([`prefill ${prefill.long.tokens}`, prefill.long]);
  }
  if (decode) language.push([`decode ${decode.tokens} after ${decode.prompt}`, decode]);
  const programs = Object.entries(report.programs).map(
    ([name, { version, adapter }]) => [name, `${version}; ${adapter}`] as const,
  );
  const skipped = Object.entries(report.skipped).map(([name, reason]) => `skip: ${name}: ${reason}\n`);
  const pruning = replaceme
    ? `\n${formatFields([
        ['ReplaceMe, original', `${replaceme.original.seconds} s (${replaceme.original.version})`],
        ['rm-engine prune', `${replaceme.ours.seconds.join(' s, ')} s`],
        ['time ratio', `${replaceme.timeRatio}`],
        ['layer kept', `original ${replaceme.original.kept}, rm-engine ${replaceme.ours.kept}`],
      ])}`
    : '';
  return (
    `median of ${report.samples} or more alternating samples, Node ${report.node}, ${report.platform}, ${report.date}\n` +
    'ratio: rm-engine / the fastest other engine on the same adapter; PyTorch is on the CPU and not in it\n' +
    (programs.length > 0 ? `\n${formatFields(programs)}` : '') +
    comparisons('GFLOP/s, MxNxK', Object.entries(report.matmul)) +
    comparisons('GFLOP/s, MLP block', Object.entries(report.mlp)) +
    comparisons('GB/s (matmul: GFLOP/s)', Object.entries(report.operations)) +
    comparisons('tokens/s', language) +
    pruning +
    (skipped.length > 0 ? `\n${skipped.join('')}` : '')
  );
}
