import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { HttpFailure } from './httpFailure.js';

/** "[::1]:8080" without its port and brackets. */
const nameOf = (host: string): string =>
  host
    .toLowerCase()
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1');

/**
 * Refuses what a page of another site may send here. Such a page can make its own name point to this machine (DNS
 * rebinding): so a name must be one of ours, while a numeric address is beyond its reach. And it says where it comes from.
 *
 * @throws HttpFailure 403
 */
export function checkHost(
  { host = '', origin }: { readonly host?: string | undefined; readonly origin?: string | undefined },
  hosts: readonly string[],
): void {
  const ours = ['localhost', hostname(), ...hosts].map(name => name.toLowerCase());
  const name = nameOf(host);
  if (!isIP(name) && !ours.includes(name)) {
    throw new HttpFailure(
      403,
      `the Host header says ${JSON.stringify(host)}, which is not a name of this server`,
      {
        code: 'wrong_host',
      },
    );
  }
  if (origin !== undefined && origin.replace(/^https?:\/\//, '') !== host) {
    throw new HttpFailure(403, `pages of ${JSON.stringify(origin)} may not use this server`, {
      code: 'wrong_origin',
    });
  }
}
