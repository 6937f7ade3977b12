/** `type/subtype` of RFC 6838, 4.2: at most 127 characters on either side. */
const MEDIA_TYPE = /^[A-Za-z0-9][\w!#$&^.+-]{0,126}\/[A-Za-z0-9][\w!#$&^.+-]{0,126}$/;
/** What servers say of bytes that they know nothing about. */
const GENERIC = /^(?:text\/.*|application\/json|(?:application|binary)\/octet-stream)$/i;

/** True for a media type without parameters, as a header can carry it. */
export function isMediaType(text: string): boolean {
  return MEDIA_TYPE.test(text);
}

/** A `Content-Type` without its parameters, the case kept; undefined if there is none, or what is there is no media type. */
export function mediaTypeIn(contentType: string | undefined): string | undefined {
  const type = contentType?.split(';', 1)[0]?.trim();
  return type !== undefined && isMediaType(type) ? type : undefined;
}

/** True for a type that says nothing of what the bytes are. */
export function isGenericType(mediaType: string): boolean {
  return GENERIC.test(mediaType);
}
