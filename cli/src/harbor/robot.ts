import { existsSync, readFileSync, rmSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { basic } from '@sepia/upstream/credentials/basic';
import { request } from 'undici';
import { HARBOR_PROBE_MS } from '../deadlines.ts';
import { replaceFile } from '../up/files.ts';
import type { HarborApi } from './api.ts';
import { differs } from './differs.ts';

/** The robot that accelerators write results with. */
export interface RobotPlan {
  /** Name in Harbor, without Harbor's prefix. */
  readonly name: string;
  readonly projects: readonly string[];
  /** File that its secret is kept in. */
  readonly secretFile: string;
}

/** What accelerators do in a project: read sources, write results, take them away. */
const RIGHTS = [
  { resource: 'repository', action: 'pull' },
  { resource: 'repository', action: 'push' },
  { resource: 'artifact', action: 'delete' },
  { resource: 'tag', action: 'create' },
  { resource: 'tag', action: 'delete' },
] as const;
const DESCRIPTION = 'Sepia accelerator';
/** What Harbor puts before names of robots, unless it is configured otherwise. */
const ROBOT_PREFIX = 'robot$';
/** A repository of which only uploads are begun, and ended at once. */
const PROBE_REPOSITORY = 'sepia-rights-check';
const MAX_ANSWER_BYTES = 256 * 1024;

/**
 * Makes the robot or brings its rights up to date, keeps its secret, and begins an upload with it in each project. Harbor
 * shows a secret once: where the file does not have it, or Harbor refuses it, it gets a new one.
 * @returns the robot's whole name; undefined in a dry run, where nothing is checked
 * @throws {CodedError} `PEER_HTTP` that names the call, `CONFIG_INVALID` for what the robot may not do, and
 * before anything is changed for a file that cannot be written
 */
export async function connectRobot(
  api: HarborApi,
  dispatcher: Dispatcher,
  plan: RobotPlan,
): Promise<string | undefined> {
  const wanted = {
    level: 'system',
    duration: -1,
    disable: false,
    description: DESCRIPTION,
    permissions: plan.projects.map((namespace) => ({ kind: 'project', namespace, access: RIGHTS })),
  };
  const kept = api.dryRun ? readOnly(plan.secretFile) : keptSecret(plan.secretFile);
  const whole = `${await prefixOf(api)}${plan.name}`;
  const found = (await api.list('/robots')).find(
    (one) => one['description'] === DESCRIPTION && one['name'] === whole,
  );
  if (found === undefined) {
    const made = await api.make('POST', '/robots', { name: plan.name, ...wanted });
    if (api.dryRun) return undefined;
    keep(plan.secretFile, made['secret']);
    return await checked(api, dispatcher, plan, String(made['name']));
  }
  const name = String(found['name']);
  const path = `/robots/${String(found['id'])}`;
  if (differs(found, wanted, [])) await api.change('PUT', path, { ...wanted, id: found['id'], name });
  // To ask is to begin an upload, which a dry run does not.
  const isTaken = kept !== '' && (api.dryRun || (await firstRefusal(api, dispatcher, plan, name)) !== 401);
  if (!isTaken) {
    const renewed = await api.make('PATCH', path, { secret: '' });
    if (!api.dryRun) keep(plan.secretFile, renewed['secret']);
  }
  return api.dryRun ? undefined : await checked(api, dispatcher, plan, name);
}

/**
 * The secret that is kept, the file now for its owner alone; empty where there is none. To be called before Harbor is
 * changed: a secret that cannot be written is lost. @throws {CodedError} `CONFIG_INVALID`
 */
function keptSecret(file: string): string {
  try {
    const isThere = existsSync(file);
    const text = isThere ? readFileSync(file, 'utf8') : '';
    replaceFile(file, text, 0o600);
    if (!isThere) rmSync(file);
    return text.trim();
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `--robot-secret-file: ${file} cannot be written (${systemCode(cause)})`,
      cause,
    });
  }
}

/** Harbor's `robot_name_prefix`: names of robots are told with it and given without. */
async function prefixOf(api: HarborApi): Promise<string> {
  const prefix = (await api.find('/configurations'))?.['robot_name_prefix'] as
    | { readonly value?: unknown }
    | undefined;
  return typeof prefix?.value === 'string' ? prefix.value : ROBOT_PREFIX;
}

function readOnly(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
}

function keep(file: string, secret: unknown): void {
  if (typeof secret !== 'string' || secret === '')
    throw new CodedError('PEER_HTTP', { message: 'Harbor made a robot and did not tell its secret' });
  replaceFile(file, `${secret}\n`, 0o600);
}

async function checked(
  api: HarborApi,
  dispatcher: Dispatcher,
  plan: RobotPlan,
  name: string,
): Promise<string> {
  for (const project of plan.projects) {
    const status = await beginUpload(api, dispatcher, plan, name, project);
    if (status !== 202)
      throw new CodedError('CONFIG_INVALID', {
        message: `the robot ${name} may not push to ${project}: Harbor answers ${status} to an upload`,
      });
  }
  return name;
}

async function firstRefusal(
  api: HarborApi,
  dispatcher: Dispatcher,
  plan: RobotPlan,
  name: string,
): Promise<number | undefined> {
  const [project] = plan.projects;
  return project === undefined ? undefined : await beginUpload(api, dispatcher, plan, name, project);
}

/** Begins an upload as an accelerator does, and takes it back. @returns Harbor's status */
async function beginUpload(
  api: HarborApi,
  dispatcher: Dispatcher,
  plan: RobotPlan,
  name: string,
  project: string,
): Promise<number> {
  const secret = readFileSync(plan.secretFile, 'utf8').trim();
  const headers = { authorization: basic({ username: name, password: secret }) };
  const url = new URL(`/v2/${project}/${PROBE_REPOSITORY}/blobs/uploads/`, api.url);
  const common = { dispatcher, headers, headersTimeout: HARBOR_PROBE_MS, bodyTimeout: HARBOR_PROBE_MS };
  const begun = await request(url, { ...common, method: 'POST' });
  await readLimited(begun.body, MAX_ANSWER_BYTES, api.url);
  const { location } = begun.headers;
  if (begun.statusCode === 202 && typeof location === 'string') {
    const session = new URL(location, url);
    // Credentials stay where they belong, wherever the answer leads.
    if (session.host === url.host) {
      const ended = await request(new URL(session.pathname + session.search, url), {
        ...common,
        method: 'DELETE',
      });
      await readLimited(ended.body, MAX_ANSWER_BYTES, api.url);
    }
  }
  return begun.statusCode;
}

/** What to write into the config of accelerators. */
export function robotHint(upstream: string, name: string, secretFile: string): string {
  return `accelerators: credentials: { ${upstream}: { username: ${name}, password-file: ${secretFile} } }`;
}
