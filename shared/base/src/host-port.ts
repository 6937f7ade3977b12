/** `host:port`; IPv6 hosts in brackets. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Reads `host:port`, `[v6]:port`; undefined if it is neither. */
export function parseHostPort(text: string): HostPort | undefined {
  const found = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535) return undefined;
  return { host: (found[1] ?? found[2])!, port };
}
