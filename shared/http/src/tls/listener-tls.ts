import type { Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import type { LiveTextsDeps, NamedFile } from '@sepia/base/config/live-texts';
import { CodedError, systemCode } from '@sepia/base/errors';
import { LogLimit } from '@sepia/base/log-limit';
import { FAILED_EVERY_MS } from '../deadlines/sockets.ts';
import type { MemberEncryption } from './cluster-encryption.ts';
import { liveTls, type TlsTexts } from './tls-texts.ts';

/** TLS at a listener: with certificates for everybody, with the cluster key for members, or both. */
export interface ListenerTls {
  /** Options of a handshake that begins now; the same object as long as nothing has changed. */
  options(): TlsOptions;
  /** Who may still come without it. */
  readonly plain: PlainRule;
  /** Tells the log of a handshake that came to nothing: a line an address and minute. */
  noteFailed(error: Error, address: string): void;
}

/** Who may ask over a connection that is not encrypted. */
export interface PlainRule {
  readonly members: boolean;
  readonly strangers: boolean;
}

/** Section `tls` of a listener, paths absolute. */
interface CertificateFiles {
  readonly 'certificate-file': string;
  readonly 'key-file': string;
}

interface ListenerTlsParts {
  /** What the config of the listener says. */
  readonly files?: CertificateFiles | undefined;
  /** Its config key, for messages. */
  readonly key: string;
  /** For listeners that members call. */
  readonly encryption?: MemberEncryption | undefined;
}

/** TLS as a listener's config and the cluster ask for it; undefined: it speaks plain HTTP alone. @throws {CodedError} `CONFIG_INVALID` */
export function listenerTls(
  deps: LiveTextsDeps,
  { files, key, encryption }: ListenerTlsParts,
): ListenerTls | undefined {
  if (files === undefined && encryption === undefined) return undefined;
  const common: TlsOptions = { ...encryption?.server, ALPNProtocols: ['http/1.1'] };
  const plain = { members: encryption?.isRequired !== true, strangers: files === undefined };
  const limit = new LogLimit({ everyMs: FAILED_EVERY_MS, lines: 20 });
  const noteFailed = (error: Error, address: string): void => {
    const leftOut = limit.take(address, deps.nowMs());
    if (leftOut === undefined) return;
    const reason = systemCode(error) ?? error.message;
    deps.log.info(
      { key, address, reason, leftOut },
      `TLS handshake failed${reason === 'ERR_SSL_BINDER_DOES_NOT_VERIFY' ? ': a member there has another cluster key' : ''}`,
    );
  };
  if (files === undefined) return { options: () => common, plain, noteFailed };
  const named = (name: keyof CertificateFiles): NamedFile => ({ file: files[name], key: `${key}.${name}` });
  const texts = liveTls(deps, { certificate: named('certificate-file'), key: named('key-file') });
  const { minVersion: _tls13, ciphers: _psk, ...forAll } = common;
  let read: TlsTexts | undefined;
  let options: TlsOptions = {};
  return {
    options: () => {
      const now = texts.current();
      if (now !== read) options = { ...forAll, cert: now.certificate, key: now.key };
      read = now;
      return options;
    },
    plain,
    noteFailed,
  };
}

/** Certificates of listeners as a config names them. @throws {CodedError} `CONFIG_INVALID` that names the key */
export function checkListeners(
  deps: LiveTextsDeps,
  listeners: readonly { readonly tls?: CertificateFiles | undefined }[],
): void {
  for (const [index, { tls: files }] of listeners.entries())
    listenerTls(deps, { files, key: `listeners.${index}.tls` });
}

/** Connections in plain at listeners that also speak TLS. */
const plainRules = new WeakMap<Socket, PlainRule>();

/** Notes who may ask over a connection that came in plain. */
export function notePlain(socket: Socket, rule: PlainRule): void {
  plainRules.set(socket, rule);
}

/** Refuses what must not be asked in plain. @throws {CodedError} `TLS_REQUIRED` */
export function demandTls(socket: Socket, who: keyof PlainRule): void {
  const rule = plainRules.get(socket);
  if (rule === undefined || rule[who]) return;
  throw new CodedError('TLS_REQUIRED', {
    message:
      who === 'strangers'
        ? 'this endpoint speaks HTTPS; ask it by https://'
        : 'the cluster document demands encryption between members, and this call came in plain; does the caller follow it?',
  });
}
