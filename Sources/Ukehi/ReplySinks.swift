// From callbacks, which the engine speaks, to `async`, which callers do.

internal import Synchronization
internal import UkehiNode

/// Hands one reply to one waiting task, whichever of the two comes first.
final class OneReply: ReplySink, @unchecked Sendable {
    // Safety: `state` is behind its mutex.
    private enum State {
        case empty
        case waiting(CheckedContinuation<Reply, Never>)
        case answered(Reply)
        case done
    }
    private let state = Mutex(State.empty)

    override func reply(_ reply: Reply, tag: UInt64) {
        let waiter: CheckedContinuation<Reply, Never>? = state.withLock { state in
            switch state {
            case .empty:
                state = .answered(reply)
                return nil
            case .waiting(let continuation):
                state = .done
                return continuation
            // Whoever answers does so once; if not, the first answer counts.
            case .answered, .done: return nil
            }
        }
        waiter?.resume(returning: reply)
    }

    /// Waits for the reply. Called once.
    func value() async -> Reply {
        await withCheckedContinuation { continuation in
            let reply: Reply? = state.withLock { state in
                if case .answered(let reply) = state {
                    state = .done
                    return reply
                }
                state = .waiting(continuation)
                return nil
            }
            if let reply { continuation.resume(returning: reply) }
        }
    }
}
