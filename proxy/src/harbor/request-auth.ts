import type { LiveTextsDeps } from '@sepia/base/config/live-texts';
import { CodedError } from '@sepia/base/errors';
import { secretHeader } from '@sepia/http/access/secret-header';
import type { Context } from 'koa';
import type { HarborConfig } from './config.ts';

type Harbor = HarborConfig;

/** Passes a request or throws `AUTH_REQUIRED`; `ROUTE_UNKNOWN` where this side is off. */
export type RequestAuth = (ctx: Context) => void;

/** How preheat drivers prove themselves (`harbor.driver-auth`). @throws {CodedError} `CONFIG_INVALID` */
export function driverAuth(deps: LiveTextsDeps, config: Harbor['driver-auth']): RequestAuth {
  const { mode, username } = config;
  const key = 'harbor.driver-auth';
  if (mode === 'none') return () => undefined;
  if (mode === 'off') return isOff(`preheat drivers are off; set ${key}.mode in the config of this proxy`);
  // What a mode needs is there: the schema asks for it.
  const source = { file: config['secret-file']!, key: `${key}.secret-file` };
  const basic = (secret: string): string => Buffer.from(`${username}:${secret}`, 'utf8').toString('base64');
  const [header, wanted, challenge] = {
    bearer: ['authorization', (secret: string) => `Bearer ${secret}`, 'Bearer realm="sepia"'],
    custom: [config.header?.toLowerCase() ?? '', (secret: string) => secret, undefined],
    basic: ['authorization', (secret: string) => `Basic ${basic(secret)}`, 'Basic realm="sepia"'],
  }[mode] as [string, (secret: string) => string, string | undefined];
  return demanded(secretHeader(deps, source, { header, wanted }), challenge);
}

/** How webhooks prove themselves (`harbor.webhook`). @throws {CodedError} `CONFIG_INVALID` */
export function webhookAuth(deps: LiveTextsDeps, config: Harbor['webhook']): RequestAuth {
  if (config.auth === 'none') return () => undefined;
  if (config.auth === 'off')
    return isOff('webhooks are off; set harbor.webhook.auth in the config of this proxy');
  const source = { file: config['authorization-file']!, key: 'harbor.webhook.authorization-file' };
  return demanded(secretHeader(deps, source, { header: 'authorization' }));
}

function isOff(message: string): RequestAuth {
  return () => {
    throw new CodedError('ROUTE_UNKNOWN', { message });
  };
}

function demanded(isRight: (ctx: Context) => boolean, challenge?: string): RequestAuth {
  return (ctx) => {
    if (isRight(ctx)) return;
    if (challenge !== undefined) ctx.set('WWW-Authenticate', challenge);
    throw new CodedError('AUTH_REQUIRED', { message: 'credentials of this request are missing or wrong' });
  };
}
