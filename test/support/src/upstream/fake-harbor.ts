import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

type Thing = Record<string, unknown>;

/** One request that the fake Harbor saw. */
export interface HarborCall {
  readonly method: string;
  readonly path: string;
  readonly body: Thing | undefined;
}

/**
 * As much of Harbor's API v2.0 as connecting uses, with its quirks: a known endpoint is a 500 without a reason, policies carry
 * JSON as text, secrets are not told again.
 */
export class FakeHarbor {
  readonly calls: HarborCall[] = [];
  readonly instances: Thing[] = [];
  readonly registries: Thing[] = [];
  readonly replications: Thing[] = [];
  readonly robots: Thing[] = [];
  /** `robot_name_prefix` of its configuration. */
  robotPrefix = 'robot$';
  /** Robots may not push, whatever their rights say. */
  forbidsPushes = false;
  /** Uploads that were begun and not taken back. */
  readonly uploads = new Set<string>();
  readonly preheats = new Map<string, Thing[]>();
  readonly webhooks = new Map<string, Thing[]>();
  /** Instances that lists do not show until one was refused. */
  hideInstances = false;
  /** Replication policies are shown with Harbor itself as their destination. */
  takesAsLocal = false;
  readonly #password: string;
  readonly #server = createServer((req, res) => void this.#serve(req, res));
  url = '';
  #ids = 0;

  private constructor(projects: readonly string[], password: string) {
    this.#password = password;
    for (const project of projects) {
      this.preheats.set(project, []);
      this.webhooks.set(project, []);
    }
  }

  static async start(projects: readonly string[], password: string): Promise<FakeHarbor> {
    const harbor = new FakeHarbor(projects, password);
    await new Promise<void>((resolve) => harbor.#server.listen(0, '127.0.0.1', resolve));
    harbor.url = `http://127.0.0.1:${(harbor.#server.address() as AddressInfo).port}`;
    return harbor;
  }

  /** Calls that change something. */
  get changes(): HarborCall[] {
    return this.calls.filter(({ method }) => method !== 'GET');
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of req as AsyncIterable<Buffer>) text += chunk.toString('utf8');
    const url = new URL(req.url ?? '/', 'http://x');
    const path = url.pathname.replace('/api/v2.0', '');
    const body = text === '' ? undefined : (JSON.parse(text) as Thing);
    this.calls.push({ method: req.method ?? '', path, body });
    const say = (status: number, value?: unknown): void =>
      void res
        .writeHead(status, { 'content-type': 'application/json' })
        .end(value === undefined ? '' : JSON.stringify(value));
    const upload = /^\/v2\/([^/]+)\/[^?]*\/blobs\/uploads\/(.*)$/.exec(path);
    if (upload !== null) return void this.#upload(req, res, upload[1]!, upload[2]!);
    const expected = `Basic ${Buffer.from(`admin:${this.#password}`).toString('base64')}`;
    if (req.headers.authorization !== expected)
      return say(401, { errors: [{ code: 'UNAUTHORIZED', message: 'unauthorized' }] });
    const project = /^\/projects\/([^/]+)(?:\/(preheat|webhook)\/policies(?:\/([^/]+))?)?$/.exec(path);
    if (project !== null) {
      const [, name = '', kind, which] = project;
      // Digits alone are an id, of which there are none, unless the header says otherwise.
      const isId = /^\d+$/.test(name) && req.headers['x-is-resource-name'] !== 'true';
      const known = !isId && this.preheats.has(decodeURIComponent(name));
      if (!known) return say(404, { errors: [{ code: 'NOT_FOUND', message: 'project not found' }] });
      if (kind === undefined) return say(200, { name });
      const table = (kind === 'preheat' ? this.preheats : this.webhooks).get(decodeURIComponent(name))!;
      if (kind === 'preheat' && body !== undefined) {
        for (const key of ['filters', 'trigger'])
          if (typeof body[key] !== 'string')
            return say(422, { errors: [{ code: '422', message: `${key} in body must be of type string` }] });
      }
      return void this.#table(req, url, say, table, body, which, kind === 'preheat' ? 'name' : 'id');
    }
    const instance = /^\/p2p\/preheat\/instances(?:\/([^/]+))?$/.exec(path);
    if (instance !== null) {
      if (req.method === 'POST' && this.instances.some((one) => one['endpoint'] === body?.['endpoint'])) {
        this.hideInstances = false;
        return say(500, { errors: [{ code: 'UNKNOWN', message: 'internal server error' }] });
      }
      const shown = this.hideInstances && req.method === 'GET' ? [] : this.instances;
      return void this.#table(req, url, say, shown, body, instance[1], 'name');
    }
    if (path === '/configurations')
      return say(200, { robot_name_prefix: { value: this.robotPrefix, editable: true } });
    const robot = /^\/robots(?:\/([^/]+))?$/.exec(path);
    if (robot !== null) return void this.#robot(req, url, say, body, robot[1]);
    const registry = /^\/registries(?:\/([^/]+))?$/.exec(path);
    if (registry !== null) return void this.#table(req, url, say, this.registries, body, registry[1], 'id');
    const replication = /^\/replication\/policies(?:\/([^/]+))?$/.exec(path);
    if (replication !== null)
      return void this.#table(
        req,
        url,
        say,
        this.takesAsLocal && req.method === 'GET'
          ? this.replications.map((one) => ({ ...one, dest_registry: { id: 0, name: 'Local' } }))
          : this.replications,
        body,
        replication[1],
        'id',
      );
    say(404, { errors: [{ code: 'NOT_FOUND', message: `${path} not found` }] });
  }

  /** A robot's secret is told once, or when it gets a new one. */
  #robot(
    req: IncomingMessage,
    url: URL,
    say: (status: number, value?: unknown) => unknown,
    body: Thing | undefined,
    which: string | undefined,
  ): unknown {
    this.#ids += 1;
    const secret = `robot-${this.#ids}-s3cret`;
    if (req.method === 'POST') {
      const made = { ...body, id: this.#ids, name: `${this.robotPrefix}${String(body?.['name'])}`, secret };
      this.robots.push(made);
      return say(201, { id: made.id, name: made.name, secret });
    }
    const found = this.robots.find((one) => String(one['id']) === which);
    if (req.method === 'PATCH' && found !== undefined) {
      found['secret'] = secret;
      return say(200, { secret });
    }
    if (req.method !== 'GET') return this.#table(req, url, say, this.robots, body, which, 'id');
    return say(
      200,
      this.robots.map(({ secret: _secret, ...shown }) => shown),
    );
  }

  #upload(req: IncomingMessage, res: ServerResponse, project: string, session: string): void {
    const given = Buffer.from(String(req.headers.authorization).replace('Basic ', ''), 'base64').toString();
    const robot = this.robots.find((one) => given === `${String(one['name'])}:${String(one['secret'])}`);
    if (robot === undefined) return void res.writeHead(401).end();
    const rights = robot['permissions'] as { namespace: string; access: { action: string }[] }[];
    const mayPush = rights.some(
      (one) => one.namespace === project && one.access.some(({ action }) => action === 'push'),
    );
    if (!mayPush || this.forbidsPushes) return void res.writeHead(403).end();
    if (req.method === 'DELETE') {
      this.uploads.delete(session);
      return void res.writeHead(204).end();
    }
    this.#ids += 1;
    this.uploads.add(String(this.#ids));
    res.writeHead(202, { location: `${this.url}${req.url}${this.#ids}` }).end();
  }

  #table(
    req: IncomingMessage,
    url: URL,
    say: (status: number, value?: unknown) => unknown,
    table: Thing[],
    body: Thing | undefined,
    which: string | undefined,
    key: 'id' | 'name',
  ): unknown {
    if (req.method === 'GET') {
      const size = Number(url.searchParams.get('page_size') ?? 10);
      const at = (Number(url.searchParams.get('page') ?? 1) - 1) * size;
      return say(
        200,
        table.slice(at, at + size).map(({ auth_info: _secret, credential: _other, ...shown }) => shown),
      );
    }
    if (req.method === 'POST') {
      this.#ids += 1;
      table.push({ ...body, id: this.#ids });
      return say(201);
    }
    const found = table.findIndex((one) => String(one[key]) === decodeURIComponent(which ?? ''));
    if (found === -1) return say(404, { errors: [{ code: 'NOT_FOUND', message: 'not found' }] });
    table[found] = { ...table[found], ...body };
    return say(200);
  }
}
