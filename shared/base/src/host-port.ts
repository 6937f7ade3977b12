/** What {@link parseHostPort} reads: an IPv6 host is without its brackets here. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Host and port of `host:port` or `[v6]:port`, the host without brackets; undefined if it is neither, or the port is above 65,535. */
export function parseHostPort(text: string): HostPort | undefined {
  const found = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535 || !URL.canParse(`http://${text}`)) return undefined;
  return { host: (found[1] ?? found[2])!, port };
}

/** True for a host that stands for all addresses of a machine: who listens there is reached by another one. */
export function isEverywhere(host: string): boolean {
  const text = `http://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}`;
  return URL.canParse(text) && ['0.0.0.0', '[::]'].includes(new URL(text).hostname);
}

/** A host with port or not in one spelling: lower case, an IPv6 address in brackets as URLs have it. */
export function inOneSpelling(host: string): string {
  const lower = host.toLowerCase();
  const [, address, port = ''] = /^(\[[0-9a-f:.]+\])(:\d{1,5})?$/.exec(lower) ?? [];
  if (address === undefined || !URL.canParse(`http://${address}`)) return lower;
  return `${new URL(`http://${address}`).hostname}${port}`;
}
