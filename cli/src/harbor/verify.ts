import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { basic } from '@sepia/upstream/credentials/basic';
import { request } from 'undici';
import { HARBOR_PROBE_MS } from '../deadlines.ts';
import type { ConnectPlan, Driver, DriverAuth } from './connect.ts';
import { rootText } from './root-text.ts';

const MAX_ANSWER_BYTES = 256 * 1024;

/** One question to the proxy with what Harbor was given, and what it is about. */
interface Probe {
  readonly what: string;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The option that a refusal points at. */
  readonly option: string;
}

/**
 * Asks the proxy as Harbor will: that it is a Sepia proxy, takes the drivers' secret and the webhooks' header. Returns
 * why that could not be seen from here, where the proxy is not reached; Harbor may reach it all the same.
 * @throws {CodedError} `CONFIG_INVALID` that names the option for what the proxy refuses
 */
export async function verifyProxy(dispatcher: Dispatcher, plan: ConnectPlan): Promise<string | undefined> {
  try {
    await refuseHarbor(dispatcher, plan.proxy);
    for (const probe of probesOf(plan)) await check(dispatcher, plan.proxy, probe);
    return undefined;
  } catch (cause) {
    throwIfBug(cause);
    if (cause instanceof CodedError) throw cause;
    return rootText(cause);
  }
}

/** A Harbor in the proxy's place would take replication policies, and copy onto itself. */
async function refuseHarbor(dispatcher: Dispatcher, proxy: string): Promise<void> {
  const { status, text } = await ask(dispatcher, proxy, {
    method: 'GET',
    path: '/api/v2.0/systeminfo',
    headers: {},
  });
  if (status === 200 && /"(?:harbor_version|auth_mode|registry_url)"/.test(text))
    throw invalid(`--proxy: ${proxy} is a Harbor, not a proxy of Sepia: nothing would be copied out of it`);
}

function probesOf({ drivers, driverAuth, webhookHeader }: ConnectPlan): Probe[] {
  const headers = headersOf(driverAuth);
  const option = '--driver-secret-file';
  const probes: Record<Driver, Probe> = {
    dragonfly: { what: 'preheats', method: 'GET', path: '/dragonfly/oapi/v1/jobs/0', headers, option },
    kraken: { what: 'preheats', method: 'POST', path: '/kraken/registry/notifications', headers, option },
  };
  const webhook: Probe = {
    what: 'webhooks',
    method: 'POST',
    path: '/webhooks/harbor',
    headers: { authorization: webhookHeader ?? '' },
    option: '--webhook-secret-file',
  };
  return [...drivers.map((driver) => probes[driver]), ...(webhookHeader === undefined ? [] : [webhook])];
}

/** Any answer but these says that the credentials are taken: nothing is asked for that could be there. */
async function check(dispatcher: Dispatcher, proxy: string, probe: Probe): Promise<void> {
  const { status, text } = await ask(dispatcher, proxy, probe);
  const said = messageIn(text);
  if (status === 401 || status === 403)
    throw invalid(
      `${probe.option}: ${proxy} refuses ${probe.what} with these credentials (${status}); give the secret that the proxies' config names`,
    );
  if (status === 404 && /\bare off\b/.test(said)) throw invalid(`${proxy}: ${said}`);
  if (status >= 500) throw invalid(`${proxy} answers ${status} to ${probe.what}: ${said}`);
}

async function ask(
  dispatcher: Dispatcher,
  proxy: string,
  { method, path, headers }: Pick<Probe, 'method' | 'path' | 'headers'>,
): Promise<{ status: number; text: string }> {
  const answer = await request(new URL(path, proxy), {
    method,
    dispatcher,
    headers: { accept: 'application/json', 'content-type': 'application/json', ...headers },
    ...(method === 'POST' ? { body: '{}' } : {}),
    headersTimeout: HARBOR_PROBE_MS,
    bodyTimeout: HARBOR_PROBE_MS,
  });
  const text = (await readLimited(answer.body, MAX_ANSWER_BYTES, proxy)).toString('utf8');
  return { status: answer.statusCode, text };
}

function headersOf({ mode, info }: DriverAuth): Record<string, string> {
  const [[name = '', value = ''] = []] = Object.entries(info);
  if (mode === 'NONE') return {};
  if (mode === 'OAUTH') return { authorization: `Bearer ${value}` };
  if (mode === 'CUSTOM') return { [name]: value };
  return { authorization: basic({ username: name, password: value }) };
}

function messageIn(text: string): string {
  return /"message":"((?:[^"\\]|\\.)*)"/.exec(text)?.[1]?.slice(0, 300) ?? text.slice(0, 100);
}

function invalid(message: string): CodedError {
  return new CodedError('CONFIG_INVALID', { message });
}
