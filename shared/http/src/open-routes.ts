/**
 * What checks a caller that is no member. `anyone`: nothing; `door`: the registry face, which must know repository and action
 * first; the others: a check that the service gives to its gate.
 */
export type Guard = 'anyone' | 'door' | 'health' | 'driver' | 'webhook' | 'loopback';

/**
 * Paths that may be called without a signature, undecoded as in the request. A `*` at the end stands for any rest, a segment
 * `*` before it for any one segment.
 */
export type OpenRoutes = Readonly<Record<string, Guard>>;

/** Harbor's drivers live under both prefixes too: it refuses the same endpoint twice. */
export const DRIVER_PREFIXES = ['', '/kraken', '/dragonfly'] as const;
const DRIVER_ROUTES = {
  '/health': 'health',
  '/healthy': 'health',
  '/_ping': 'health',
  '/registry/notifications': 'driver',
  '/oapi/v1/jobs': 'driver',
  '/oapi/v1/jobs/*': 'driver',
  '/preheats': 'driver',
  '/preheats/*': 'driver',
  '/webhooks/harbor': 'webhook',
} as const;
const REGISTRY = { '/v2': 'door', '/v2/*': 'door', '/token': 'door' } as const;

/**
 * The one list of what is open without a signature, for each kind of listener. What is not here answers only to calls
 * signed with the cluster key.
 */
export const OPEN_ROUTES = {
  origin: {},
  // The policy `strangers` decides in these routes.
  tracker: { '/announce': 'anyone', '/scrape': 'anyone', '/v1/blobs/*/torrent': 'anyone' },
  agent: REGISTRY,
  accelerator: {
    '/api/v1/health': 'anyone',
    '/api/v1/conversions': 'webhook',
    '/api/v1/conversions/events': 'webhook',
    '/api/v1/conversions/*/events': 'webhook',
    // The page has nothing but what the list of conversions shows to whoever opens it.
    '/': 'anyone',
    '/ui': 'anyone',
    '/ui/*': 'anyone',
  },
  proxy: {
    ...REGISTRY,
    ...Object.fromEntries(
      DRIVER_PREFIXES.flatMap((prefix) =>
        Object.entries(DRIVER_ROUTES).map(([path, guard]) => [prefix + path, guard]),
      ),
    ),
    '/readiness': 'anyone',
    '/': 'anyone',
    '/ui': 'anyone',
    '/ui/*': 'anyone',
  },
  admin: {
    '/livez': 'anyone',
    '/readyz': 'anyone',
    '/healthz': 'anyone',
    '/metrics': 'anyone',
    '/debug/*': 'loopback',
  },
} as const satisfies Readonly<Record<string, OpenRoutes>>;

/** The guard of a path, or undefined where only members may come. Compares character by character. */
export function guardOf(open: OpenRoutes, path: string): Guard | undefined {
  if (Object.hasOwn(open, path)) return open[path];
  for (const [one, guard] of Object.entries(open)) {
    if (one.endsWith('*') ? path.startsWith(one.slice(0, -1)) : isOfForm(one, path)) return guard;
  }
  return undefined;
}

function isOfForm(form: string, path: string): boolean {
  if (!form.includes('/*/')) return false;
  const parts = path.split('/');
  const wanted = form.split('/');
  return (
    parts.length === wanted.length &&
    wanted.every((one, index) => (one === '*' ? parts[index] !== '' : one === parts[index]))
  );
}
