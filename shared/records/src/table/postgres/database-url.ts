import { LiveTexts, type LiveTextsDeps, readText, type TextSource } from '@sepia/base/config/live-texts';
import { CodedError } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';

/**
 * The address of the records' database that a file holds. `key`: the key or flag that names the file.
 * @throws {CodedError} `CONFIG_INVALID`, never with what the file holds
 */
export function readDatabaseUrl(file: string, key: string): string {
  return checked(readText({ file, key }), { file, key });
}

/**
 * The address as it is now: of a file that is written anew, user, password and parameters count from the next connection on.
 * Another server or database would part the origins: that one is left aside, with an error in the log. @throws as {@link readDatabaseUrl}
 */
export function liveDatabaseUrl(deps: LiveTextsDeps, source: TextSource): () => string {
  if (typeof source === 'string') return () => source;
  let place: string | undefined;
  const texts = new LiveTexts(deps, { url: source }, ({ url = '' }) => {
    const found = identityOf(checked(url, source));
    place ??= found;
    if (found !== place)
      throw invalid(source.key, `${source.file} names another database; that takes a restart of all origins`);
  });
  return () => texts.current().url?.trim() ?? '';
}

/** Host and name of the database, without who and how. */
export function placeOf(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}

/** What makes it another database: `host`, `port` and `options` (a search path) of the query count before what stands in front. */
function identityOf(text: string): string {
  const { hostname, port, pathname, searchParams: asked } = new URL(text);
  const parts = [
    asked.get('host') ?? hostname,
    (asked.get('port') ?? port) || '5432',
    asked.get('dbname') ?? asked.get('database') ?? pathname,
    asked.get('options') ?? '',
  ];
  return parts.join('\n');
}

function checked(text: string, { file, key }: { readonly file: string; readonly key: string }): string {
  const url = tryParse(() => new URL(text.trim()));
  if (!url.ok || !/^postgres(?:ql)?:$/.test(url.value.protocol) || url.value.pathname.length < 2)
    throw invalid(key, `${file} holds no address such as postgres://user:password@host:5432/database`);
  return text.trim();
}

function invalid(key: string, message: string): CodedError {
  return new CodedError('CONFIG_INVALID', { message: `${key}: ${message}` });
}
