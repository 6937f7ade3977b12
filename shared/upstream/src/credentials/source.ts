/** User and password of an account at a registry. Secrets: never logged, and sent to that registry and its token service alone. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
  /** The password is a token that the registry's token service gave: it is shown to that alone, which gives others for it (OAuth 2, `refresh_token`). */
  readonly isIdentityToken?: true;
}

/** Where the credentials for a registry come from; asked each time that they are needed, so that new ones count at once. */
export interface CredentialSource {
  /** The credentials of now, undefined where there are none. @throws {CodedError} `BACKEND_DOWN` when they cannot be had */
  current(): Promise<Credentials | undefined>;
  /** These were refused: whatever was remembered of them goes. */
  refused(credentials: Credentials): void;
}

/** The same credentials for ever, as a client brings them. */
export function fixedCredentials(credentials: Credentials): CredentialSource {
  return { current: () => Promise.resolve(credentials), refused: () => undefined };
}

/** True for the same account with the same password; false where there is no other. */
export function isSame(one: Credentials, other: Credentials | undefined): boolean {
  return one.username === other?.username && one.password === other.password;
}
