import { hostList, proxyUrl } from '@sepia/base/config/units';

/** Keys of an upstream and of a replication target: how it is reached, and where it may lead to. */
export const REACH_KEYS = {
  proxy: proxyUrl()
    .optional()
    .describe(
      'HTTP proxy on the way to it, or direct; without it what HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the process say.',
    ),
  'redirect-hosts': hostList().describe(
    'Hosts, with port or not, that it may redirect to although they are at loopback, link-local or private addresses. Public ones need no entry; none of them gets credentials.',
  ),
  'realm-hosts': hostList().describe(
    'Hosts, with port or not, of token services that get its credentials although they are neither on its host nor in its domain.',
  ),
};
