import { type NamedUpstream, upstreamOfHost } from '@sepia/base/names/upstream-name';

/** A listener of a member's registry face, as its config says. */
interface OwnListener {
  readonly listen: string;
  readonly 'default-upstream'?: string | undefined;
  readonly 'public-url'?: string | undefined;
}

/**
 * The upstreams of a member, which answer to its own addresses too: those of a listener stand for the upstream that is its default.
 * A host that the cluster document gives to an upstream stays that one's.
 */
export function withOwnHosts<T extends NamedUpstream>(
  upstreams: readonly T[],
  defaultUpstream: string,
  listeners: readonly OwnListener[],
): T[] {
  const own = listeners.flatMap((one) =>
    hostsOf(one)
      .filter((host) => upstreamOfHost(host, upstreams) === undefined)
      .map((host) => ({ host, upstream: one['default-upstream'] ?? defaultUpstream })),
  );
  return upstreams.map((upstream) => {
    const hosts = own.flatMap((one) => (one.upstream === upstream.name ? [one.host] : []));
    return hosts.length === 0 ? upstream : { ...upstream, hosts: [...upstream.hosts, ...hosts] };
  });
}

function hostsOf({ listen, 'public-url': publicUrl }: OwnListener): string[] {
  return publicUrl === undefined ? [listen] : [listen, new URL(publicUrl).host];
}
