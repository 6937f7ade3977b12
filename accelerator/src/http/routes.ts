import type Router from '@koa/router';
import type { LiveTextsDeps } from '@sepia/base/config/live-texts';
import { CodedError } from '@sepia/base/errors';
import { isRepositoryName, isTag } from '@sepia/base/names/repository';
import { upstreamOfHost } from '@sepia/base/names/upstream-name';
import type { ConversionTask } from '@sepia/cluster/api/conversions';
import type { Cluster } from '@sepia/cluster/cluster';
import { ConversionRules } from '@sepia/cluster/conversion-rules';
import { secretHeader } from '@sepia/http/access/secret-header';
import { routed } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { QueueClient } from '../net/queue-client.ts';
import { type AcceldTask, parseAcceldRequest } from './acceld.ts';
import { answered, knownTask } from './answers.ts';
import type { SyncRequests } from './sync-requests.ts';

interface RouteDeps {
  readonly cluster: Cluster;
  readonly queue: Pick<QueueClient, 'add' | 'cancel' | 'retry'>;
  readonly sync: SyncRequests;
  /** All jobs as they are shown, the newest first. */
  readonly list: () => Promise<readonly AcceldTask[]>;
}

const MAX_BODY_BYTES = 1024 * 1024;

/**
 * The API of Harbor's acceleration-service, so that its users change the URL only:
 *
 * `POST /api/v1/conversions` webhook → `"Ok"`, with `sync=true` once all of it is converted · `GET /api/v1/conversions` · `GET /api/v1/health`. Ours beyond it, signed:
 * `GET /api/v1/conversions/<id>`, `POST /api/v1/conversions/<id>/cancel|retry`. Errors are `{code, message}`.
 */
export function apiRoutes(router: Router, deps: RouteDeps): void {
  const rules = new ConversionRules(deps.cluster.document.conversions);
  router.get('/api/v1/health', async (context) => {
    await answered(routed(context, 'health'), async () => 'Ok');
  });
  router.post('/api/v1/conversions', async (context) => {
    await answered(routed(context, 'conversions-add'), async (ctx) => {
      const request = await readJson(ctx, MAX_BODY_BYTES, parseAcceldRequest);
      if (request !== undefined && 'wrong' in request)
        throw new CodedError('REQUEST_INVALID', { message: request.wrong });
      const tasks = (request ?? []).flatMap((url) => tasksOf(deps.cluster, rules, url));
      const add = async (): Promise<readonly string[]> => {
        const ids: string[] = [];
        for (const task of tasks) ids.push((await deps.queue.add(task)).id);
        return ids;
      };
      if (ctx.query['sync'] === 'true') await deps.sync.after(ctx, add);
      else await add();
      return 'Ok';
    });
  });
  router.get('/api/v1/conversions', async (context) => {
    await answered(routed(context, 'conversions'), async () => await deps.list());
  });
  router.get('/api/v1/conversions/:id', async (context) => {
    await answered(
      routed(context, 'conversion'),
      async () => await knownTask(deps.list, context.params['id']),
    );
  });
  for (const verb of ['cancel', 'retry'] as const)
    router.post(`/api/v1/conversions/:id/${verb}`, async (context) => {
      await answered(routed(context, `conversion-${verb}`), async () => {
        await deps.queue[verb](context.params['id'] ?? '');
        return 'Ok';
      });
    });
}

/** What the rules make of a pushed image `host/repository:tag[@digest]`: nothing without a tag. @throws `REQUEST_INVALID`, `UPSTREAM_UNKNOWN` */
function tasksOf(cluster: Cluster, rules: ConversionRules, url: string): ConversionTask[] {
  const named = url.replace(/^https?:\/\//, '').replace(/@sha(?:256|512):[0-9a-f]+$/, '');
  const slash = named.indexOf('/');
  const colon = named.lastIndexOf(':');
  const host = named.slice(0, Math.max(0, slash));
  const repository = named.slice(slash + 1, colon > slash ? colon : undefined);
  const isUntagged = colon <= slash && url.includes('@');
  const tag = colon > slash ? named.slice(colon + 1) : 'latest';
  if (slash < 1 || !isRepositoryName(repository) || !isTag(tag))
    throw new CodedError('REQUEST_INVALID', {
      message: `${url.slice(0, 300)} is not an image like host/repository:tag`,
    });
  const upstream = upstreamOfHost(host, cluster.upstreams);
  if (upstream === undefined)
    throw new CodedError('UPSTREAM_UNKNOWN', { message: `no upstream answers to ${host}` });
  return isUntagged ? [] : rules.tasksOf({ kind: 'push', upstream: upstream.name, repository, tag });
}

/** Passes a request that is not signed, or throws. */
export type ApiGuard = (ctx: Context) => void;

/**
 * Who may come in without a signature: whoever knows the header may convert; who may read says the config.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function apiGuard(
  deps: LiveTextsDeps,
  api: { readonly 'authorization-file'?: string | undefined; readonly read: 'anyone' | 'members' },
): ApiGuard {
  const file = api['authorization-file'];
  const source = file === undefined ? undefined : { file, key: 'api.authorization-file' };
  const isRight = source === undefined ? undefined : secretHeader(deps, source, { header: 'authorization' });
  return (ctx) => {
    if (ctx.method === 'GET' || ctx.method === 'HEAD') {
      if (api.read === 'anyone') return;
      throw new CodedError('SIGNATURE_INVALID', {
        message: 'conversions are shown to members only; see api.read',
      });
    }
    if (isRight === undefined)
      throw new CodedError('AUTH_REQUIRED', {
        message: 'nobody may convert by this route; set api.authorization-file',
      });
    if (!isRight(ctx))
      throw new CodedError('AUTH_REQUIRED', { message: 'the Authorization header is missing or wrong' });
  };
}
