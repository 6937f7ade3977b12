import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Context } from 'koa';
import type { HarborConfig } from './config.ts';

type Harbor = HarborConfig;

/** Passes a request or throws `AUTH_REQUIRED`; `ROUTE_UNKNOWN` where this side is off. */
export type RequestAuth = (ctx: Context) => void;

/** How preheat drivers prove themselves (`harbor.driver-auth`). @throws {CodedError} `CONFIG_INVALID` */
export function driverAuth(config: Harbor['driver-auth']): RequestAuth {
  const { mode } = config;
  const key = 'harbor.driver-auth';
  if (mode === 'none') return () => undefined;
  if (mode === 'off') return isOff(`preheat drivers are off; set ${key}.mode in the config of this proxy`);
  const secret = readSecret(config['secret-file']!, `${key}.secret-file`);
  if (mode === 'bearer') return exactly('authorization', `Bearer ${secret}`, 'Bearer realm="sepia"');
  // What a mode needs is there: the schema asks for it.
  if (mode === 'custom') return exactly(config.header!.toLowerCase(), secret);
  const basic = Buffer.from(`${config.username}:${secret}`, 'utf8').toString('base64');
  return exactly('authorization', `Basic ${basic}`, 'Basic realm="sepia"');
}

/** How webhooks prove themselves (`harbor.webhook`). @throws {CodedError} `CONFIG_INVALID` */
export function webhookAuth(config: Harbor['webhook']): RequestAuth {
  if (config.auth === 'none') return () => undefined;
  if (config.auth === 'off')
    return isOff('webhooks are off; set harbor.webhook.auth in the config of this proxy');
  const secret = readSecret(config['authorization-file']!, 'harbor.webhook.authorization-file');
  return exactly('authorization', secret);
}

function isOff(message: string): RequestAuth {
  return () => {
    throw new CodedError('ROUTE_UNKNOWN', { message });
  };
}

/** Compares one header with its whole expected value, in a time that tells nothing of either. */
function exactly(header: string, expected: string, challenge?: string): RequestAuth {
  const wanted = hash(expected);
  return (ctx) => {
    if (timingSafeEqual(hash(ctx.get(header)), wanted)) return;
    if (challenge !== undefined) ctx.set('WWW-Authenticate', challenge);
    throw new CodedError('AUTH_REQUIRED', { message: 'credentials of this request are missing or wrong' });
  };
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

function readSecret(file: string, key: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throwIfBug(cause);
    throw invalid(`${key}: ${file} cannot be read (${systemCode(cause)})`, cause);
  }
  if (text === '') throw invalid(`${key}: ${file} is empty`);
  return text;
}

function invalid(message: string, cause?: unknown): CodedError {
  return new CodedError('CONFIG_INVALID', { message, cause });
}
