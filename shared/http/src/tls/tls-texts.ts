import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { LiveTexts, type TextSource, type TextSources, type Texts } from '@sepia/base/config/live-texts';
import { CodedError, systemCode } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';

type TlsName = 'ca' | 'certificate' | 'key';

/** What TLS to a registry needs, as PEM: whom it trusts beside the system's, and how it shows who it is. */
export type TlsTexts = Texts<TlsName>;

/** The certificates of a registry's client as they are now. @throws {CodedError} `CONFIG_INVALID` that names the key of a file that holds none */
export function liveTls(
  deps: ConstructorParameters<typeof LiveTexts<TlsName>>[0],
  sources: TextSources<TlsName>,
): LiveTexts<TlsName> {
  return new LiveTexts(deps, sources, (texts) => checkTls(texts, sources));
}

function checkTls({ certificate, key, ...texts }: TlsTexts, sources: TextSources<TlsName>): void {
  for (const [name, text] of Object.entries({ ...texts, certificate })) {
    if (text === undefined) continue;
    const read = tryParse(() => new X509Certificate(text));
    if (!read.ok) throw invalid(sources[name as TlsName], 'holds no certificate as PEM', read.cause);
  }
  if (certificate === undefined || key === undefined) return;
  const read = tryParse(() => createSecureContext({ cert: certificate, key }));
  if (!read.ok)
    throw invalid(sources.key, 'is not the key of that certificate, or asks for a passphrase', read.cause);
}

function invalid(source: TextSource | undefined, what: string, cause: unknown): CodedError {
  const named = typeof source === 'object' ? `${source.key}: ${source.file} ` : '';
  return new CodedError('CONFIG_INVALID', { message: `${named}${what} (${systemCode(cause)})`, cause });
}
