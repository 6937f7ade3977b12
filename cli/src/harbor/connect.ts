import { CodedError } from '@sepia/base/errors';
import type { HarborApi, HarborObject } from './api.ts';
import { differs } from './differs.ts';

/** Whose preheat API Harbor is to speak (its P2P providers); a proxy answers both. */
export type Driver = 'dragonfly' | 'kraken';

/** How Harbor is to prove itself to preheat drivers. */
export interface DriverAuth {
  readonly mode: 'NONE' | 'BASIC' | 'OAUTH' | 'CUSTOM';
  /** As Harbor wants it: `{user: password}`, `{token}`, or `{header: value}`. */
  readonly info: Readonly<Record<string, string>>;
}

/** What is to stand in Harbor afterwards. */
export interface ConnectPlan {
  /** Begins every name that is made. */
  readonly name: string;
  /** A proxy as Harbor reaches it, without a slash at the end. */
  readonly proxy: string;
  readonly projects: readonly string[];
  readonly drivers: readonly Driver[];
  readonly scope: string;
  readonly insecure: boolean;
  readonly driverAuth: DriverAuth;
  /** Value of `Authorization` of webhooks; without it no webhook is made. */
  readonly webhookHeader: string | undefined;
  readonly registry: { readonly username: string; readonly password: string } | undefined;
  /** Push what the projects get to the proxy. */
  readonly replicate: boolean;
}

/**
 * Brings Harbor to the plan: finds what is there by name or address, changes it where it differs, makes what lacks,
 * never a second one. @throws {CodedError} `PEER_HTTP` that names the call, `CONFIG_INVALID` for a project that is not there
 */
export async function connect(api: HarborApi, plan: ConnectPlan): Promise<void> {
  for (const project of plan.projects)
    if ((await api.find(`/projects/${encodeURIComponent(project)}`)) === undefined)
      throw new CodedError('CONFIG_INVALID', { message: `Harbor has no project "${project}"` });
  const instances = new Map<Driver, HarborObject>();
  for (const driver of plan.drivers) instances.set(driver, await connectInstance(api, plan, driver));
  const [first] = plan.drivers;
  for (const project of plan.projects) {
    if (first !== undefined) await connectPreheat(api, plan, project, first, instances.get(first)!);
    if (plan.webhookHeader !== undefined) await connectWebhook(api, plan, project, plan.webhookHeader);
  }
  const registry = await connectRegistry(api, plan);
  if (plan.replicate) await connectReplication(api, plan, registry);
}

async function connectInstance(api: HarborApi, plan: ConnectPlan, driver: Driver): Promise<HarborObject> {
  const endpoint = `${plan.proxy}/${driver}`;
  const wanted = {
    name: `${plan.name}-${driver}`,
    vendor: driver,
    endpoint,
    auth_mode: plan.driverAuth.mode,
    auth_info: plan.driverAuth.info,
    enabled: true,
    insecure: plan.insecure,
    description: 'Sepia',
  };
  const find = async (): Promise<HarborObject | undefined> =>
    (await api.list('/p2p/preheat/instances')).find(
      (one) => sameAddress(one['endpoint'], endpoint) || one['name'] === wanted.name,
    );
  const update = async (found: HarborObject): Promise<HarborObject> => {
    const name = String(found['name']);
    const body = { ...wanted, name, id: found['id'] };
    if (differs(found, body, ['auth_info']) || plan.driverAuth.mode !== 'NONE')
      await api.change('PUT', `/p2p/preheat/instances/${encodeURIComponent(name)}`, body);
    return found;
  };
  const found = await find();
  if (found !== undefined) return await update(found);
  // Harbor tells of an endpoint that it knows already by a 500 without a reason.
  const status = await api.change('POST', '/p2p/preheat/instances', wanted, [409, 500]);
  const made = await find();
  if (made !== undefined) return status >= 400 ? await update(made) : made;
  if (api.dryRun) return { ...wanted, id: `(id of ${wanted.name})` };
  throw new CodedError('PEER_HTTP', {
    message: `Harbor answers ${status} to POST /api/v2.0/p2p/preheat/instances and does not have ${wanted.name} afterwards`,
  });
}

/** Filters, trigger and attributes are JSON texts inside the JSON. */
async function connectPreheat(
  api: HarborApi,
  plan: ConnectPlan,
  project: string,
  driver: Driver,
  instance: HarborObject,
): Promise<void> {
  const base = `/projects/${encodeURIComponent(project)}/preheat/policies`;
  const wanted = {
    name: plan.name,
    provider_id: instance['id'],
    enabled: true,
    description: 'Sepia',
    filters: JSON.stringify([
      { type: 'repository', value: '**' },
      { type: 'tag', value: '**' },
    ]),
    trigger: JSON.stringify({ type: 'event_based' }),
    ...(driver === 'dragonfly' ? { extra_attrs: JSON.stringify({ scope: plan.scope }) } : {}),
  };
  const found = (await api.list(base)).find((one) => one['name'] === plan.name);
  if (found === undefined) return void (await api.change('POST', base, wanted));
  if (differs(found, wanted, []))
    await api.change('PUT', `${base}/${encodeURIComponent(plan.name)}`, { ...wanted, id: found['id'] });
}

async function connectWebhook(
  api: HarborApi,
  plan: ConnectPlan,
  project: string,
  header: string,
): Promise<void> {
  const base = `/projects/${encodeURIComponent(project)}/webhook/policies`;
  const address = `${plan.proxy}/webhooks/harbor`;
  const target = {
    type: 'http',
    address,
    auth_header: header,
    skip_cert_verify: plan.insecure,
    payload_format: 'CloudEvents',
  };
  const wanted = {
    name: plan.name,
    enabled: true,
    description: 'Sepia',
    event_types: ['PUSH_ARTIFACT', 'DELETE_ARTIFACT'],
    targets: [target],
  };
  const found = (await api.list(base)).find(
    (one) =>
      one['name'] === plan.name ||
      (Array.isArray(one['targets']) &&
        one['targets'].some((each: unknown) => sameAddress((each as HarborObject)['address'], address))),
  );
  if (found === undefined) return void (await api.change('POST', base, wanted));
  const body = { ...wanted, name: found['name'], id: found['id'] };
  if (differs(found, body, [])) await api.change('PUT', `${base}/${String(found['id'])}`, body);
}

async function connectRegistry(api: HarborApi, plan: ConnectPlan): Promise<HarborObject> {
  const common = { name: plan.name, url: plan.proxy, insecure: plan.insecure, description: 'Sepia' };
  const { registry } = plan;
  const find = async (): Promise<HarborObject | undefined> =>
    (await api.list('/registries')).find(
      (one) =>
        one['name'] === plan.name ||
        (one['type'] === 'docker-registry' && sameAddress(one['url'], plan.proxy)),
    );
  const found = await find();
  if (found === undefined) {
    const credential =
      registry === undefined
        ? {}
        : {
            credential: { type: 'basic', access_key: registry.username, access_secret: registry.password },
          };
    await api.change('POST', '/registries', { ...common, type: 'docker-registry', ...credential });
    const made = await find();
    if (made !== undefined) return made;
    if (api.dryRun) return { id: `(id of ${plan.name})` };
    throw new CodedError('PEER_HTTP', {
      message: `Harbor took POST /api/v2.0/registries and does not have ${plan.name} afterwards`,
    });
  }
  const { name: _name, ...same } = common;
  if (differs(found, same, []) || registry !== undefined)
    await api.change('PUT', `/registries/${String(found['id'])}`, {
      ...same,
      name: found['name'],
      ...(registry === undefined
        ? {}
        : {
            credential_type: 'basic',
            access_key: registry.username,
            access_secret: registry.password,
          }),
    });
  return found;
}

async function connectReplication(api: HarborApi, plan: ConnectPlan, registry: HarborObject): Promise<void> {
  const { projects } = plan;
  const wanted = {
    name: plan.name,
    enabled: true,
    override: true,
    deletion: true,
    copy_by_chunk: true,
    dest_namespace_replace_count: 0,
    filters: [
      { type: 'name', value: projects.length === 1 ? `${projects[0]}/**` : `{${projects.join(',')}}/**` },
    ],
    trigger: { type: 'event_based' },
    dest_registry: { id: registry['id'] },
  };
  const find = async (): Promise<HarborObject | undefined> =>
    (await api.list(`/replication/policies?name=${encodeURIComponent(plan.name)}`)).find(
      (one) => one['name'] === plan.name,
    );
  const found = await find();
  if (found === undefined) await api.change('POST', '/replication/policies', wanted);
  else if (differs(found, wanted, []))
    await api.change('PUT', `/replication/policies/${String(found['id'])}`, { ...wanted, id: found['id'] });
  if (api.dryRun) return;
  // A policy whose destination Harbor does not know as another registry copies into Harbor itself.
  const made = (await find())?.['dest_registry'] as HarborObject | undefined;
  if (
    made?.['id'] === registry['id'] &&
    (made?.['url'] === undefined || sameAddress(made['url'], plan.proxy))
  )
    return;
  throw new CodedError('PEER_HTTP', {
    message: `Harbor's replication policy "${plan.name}" copies to ${String(made?.['url'] ?? made?.['name'] ?? 'Harbor itself')}, not to ${plan.proxy}; delete it there and run this again`,
  });
}

/** Harbor compares addresses as texts; a slash at the end is another text and the same place. */
function sameAddress(found: unknown, wanted: string): boolean {
  return typeof found === 'string' && found.replace(/\/+$/, '') === wanted;
}
