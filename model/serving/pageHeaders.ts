import { createHash } from 'node:crypto';

/** Content-Security-Policy's names of what stands between the tags of a page. */
function hashes(page: string, tag: 'script' | 'style'): string {
  const found = [...page.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))];
  return found
    .map(([, inside]) => `'sha256-${createHash('sha256').update(inside!).digest('base64')}'`)
    .join(' ');
}

/** Headers of a page of one file: only what stands in it runs, and it talks to this server alone. */
export const pageHeaders = (page: string): Record<string, string> => ({
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-cache',
  'content-security-policy': [
    "default-src 'none'",
    `script-src ${hashes(page, 'script') || "'none'"}`,
    `style-src ${hashes(page, 'style') || "'none'"}`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
});
