import * as shipped from '@sepia/records/register/register';

export * from '@sepia/records/register/register';

/** An acceptor that answers its first value for ever, as that of the newest ballot. */
export const acceptorStep: typeof shipped.acceptorStep = (state, request) => {
  const { next, reply } = shipped.acceptorStep(state, request);
  const isFrozen = request.type === 'accept' && state.value !== undefined;
  return { next: isFrozen ? { ...next, value: state.value } : next, reply };
};
