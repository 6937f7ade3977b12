import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { type CredentialFlags, credentialsFor } from './credentials.ts';
import { HttpProxies } from './http-proxies.ts';
import { RegistryClient } from './registry-client.ts';

/** A registry as a command was told of it. */
interface RegistryPlace {
  /** Base URL of the registry endpoint. */
  readonly url: string;
  /** Registry that the names belong to, where `url` is a member's that serves several. */
  readonly ns?: string | undefined;
  /** Name under which credentials are kept; undefined: `ns`, else the host of `url`. */
  readonly host?: string;
  /** Whether `url` is a member's of a cluster, which is reached straight. */
  readonly isMember: boolean;
  /** What to do when nobody answers at `url`. */
  readonly hint?: string;
}

/**
 * The client by which a command of this process speaks to a registry: through the HTTP proxies that the environment names, with
 * the account of the flags, of the environment or of docker's login. @throws {CodedError} as `credentialsFor`
 */
export function commandClient(
  { host, isMember, ...place }: RegistryPlace,
  flags: CredentialFlags,
  dispatcher: Dispatcher = createDispatcher(),
): RegistryClient {
  const { url, ns } = place;
  const credentials = credentialsFor(host ?? ns ?? new URL(url).host, flags, process.env);
  const proxies = new HttpProxies(process.env, isMember ? url : undefined);
  return new RegistryClient({ dispatcher, proxies }, { ...place, credentials });
}
