// Writes that may be sent again and are carried out once (RULES 75).

internal import Synchronization
public import UkehiBase
internal import UkehiEnvironment
public import UkehiNode
public import UkehiState

/// A series of writes that are carried out once, however often they are sent.
///
/// A write that got no answer is asked again, here or elsewhere, until its timeout: the region that has
/// carried it out remembers the result, and gives it again. That holds across all regions, when a region
/// is divided or moved, and when leaders change. Reads are those of the store that opened the session.
///
/// ```swift
/// let session = client.openSession()
/// try await session.increment("visits")
/// ```
///
/// A session is for any number of tasks at once; at most 64 of its writes are on their way at one time,
/// further ones wait. While one is without an answer at most 63 later ones begin, whichever regions they go
/// to. Open one and use it for long: each region remembers 4,096 sessions, and forgets
/// those that were used least lately, or not for an hour. A session that was forgotten while nothing was
/// on its way goes on under another name by itself.
///
/// Errors are those of ``KeyValueStore``, but rarer:
/// - ``RequestError/outcomeUnknown``: the timeout has passed, or the region has forgotten the session, after
///   the write was sent without an answer. It may have been carried out, once. Writing it again through
///   the session would be another write.
/// - ``RequestError/Rejection/sessionExpired``: nothing was done; regions did not take the session under
///   any name until the timeout. Are the clocks of clients and nodes right?
///
/// A task that is cancelled stops asking; what it has sent may be carried out.
public final class Session: KeyValueStore, Sendable {
    private struct State {
        var window: SessionWindow
        /// The latest time at which a name was opened, in milliseconds since 1970.
        var openedAt: UInt64
        var lastTicket: UInt64 = 0
        /// Writes that wait for room, first come first served.
        var waiters: [(ticket: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
    }
    private let engine: RequestEngine
    private let state: Mutex<State>

    init(_ engine: RequestEngine) {
        self.engine = engine
        let now = engine.wallMilliseconds
        state = Mutex(State(window: Self.named(at: now), openedAt: now))
    }

    private static func named(at milliseconds: UInt64) -> SessionWindow {
        SessionWindow(
            id: SessionID(openedAt: milliseconds, random: .random(in: 0 ... .max)),
            salt: .random(in: 0...SessionSequence.maxSalt))
    }

    public func run(
        _ command: Command, timeout: Duration
    ) async throws(RequestError) -> CommandResult {
        let deadline = engine.deadline(timeout)
        var attempt = 0
        while true {
            let (id, sequence) = try await take(until: deadline)
            let openAt: UInt64
            do {
                defer { end(id, sequence) }
                let options = CommandRecord.Options(session: (id.rawValue, sequence.rawValue))
                let result = try await engine.run(command, options, until: deadline)
                guard case .sessionExpired(let time) = result else { return result }
                openAt = time
            }
            // Nothing was done, neither now nor before: under another name it is a write like any other.
            rename(id, openAt: openAt)
            attempt += 1
            guard await engine.pause(before: attempt, until: deadline) else {
                throw .rejected(.sessionExpired)
            }
        }
    }

    public func get(
        _ key: Bytes, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> VersionedValue? {
        try await engine.get(key, mode: mode, timeout: timeout)
    }

    public func scan(
        from lower: Bytes, to upper: Bytes?, limit: Int, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> ScanPage {
        try await engine.scan(from: lower, to: upper, limit: limit, mode: mode, timeout: timeout)
    }

    /// Opens another session.
    public func openSession() -> Session { Session(engine) }

    // MARK: Numbers

    private func take(
        until deadline: MonotonicTime
    ) async throws(RequestError) -> (SessionID, SessionSequence) {
        while true {
            let taken: (SessionID, SessionSequence)? = state.withLock { state in
                if state.window.isSpent {
                    state.window = Self.named(at: max(state.openedAt, engine.wallMilliseconds))
                }
                guard state.window.room > 0 else { return nil }
                return (state.window.id, state.window.take())
            }
            if let taken { return taken }
            guard await waitForRoom(until: deadline) else { throw .rejected(.timedOut) }
        }
    }

    private func end(_ id: SessionID, _ sequence: SessionSequence) {
        let woken = state.withLock { state in
            // Under an old name nobody takes numbers any more.
            if state.window.id == id { state.window.end(sequence.number) }
            return Self.waiters(&state)
        }
        for waiter in woken { waiter.continuation.resume(returning: true) }
    }

    /// Goes on under another name, unless somebody has seen to it.
    private func rename(_ id: SessionID, openAt: UInt64) {
        let woken = state.withLock { state in
            if state.window.id == id {
                state.openedAt = openAt
                state.window = Self.named(at: openAt)
            }
            return Self.waiters(&state)
        }
        for waiter in woken { waiter.continuation.resume(returning: true) }
    }

    // MARK: Waiting

    /// Takes out as many of those that wait as there is room for.
    private static func waiters(
        _ state: inout State
    ) -> [(ticket: UInt64, continuation: CheckedContinuation<Bool, Never>)] {
        let count = min(state.window.room, state.waiters.count)
        defer { state.waiters.removeFirst(count) }
        return Array(state.waiters.prefix(count))
    }

    /// False when the deadline has passed, or the task was cancelled.
    private func waitForRoom(until deadline: MonotonicTime) async -> Bool {
        let left = engine.nanoseconds(until: deadline)
        guard left > 0 else { return false }
        let ticket = state.withLock { state in
            state.lastTicket += 1
            return state.lastTicket
        }
        let timer = Task { [self] in
            // Past the deadline for certain: who was not on the list yet by then does not get on it.
            try? await Task.sleep(
                for: .nanoseconds(Int64(clamping: min(left, 1 << 62) + 1_000_000)))
            leave(ticket)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLock { state in
                    if state.window.room > 0 { return true }
                    // Who is cancelled later is found in the list.
                    if Task.isCancelled || engine.nanoseconds(until: deadline) == 0 { return false }
                    state.waiters.append((ticket, continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            leave(ticket)
        }
    }

    private func leave(_ ticket: UInt64) {
        let waiter = state.withLock { state in
            state.waiters.firstIndex { $0.ticket == ticket }.map { state.waiters.remove(at: $0) }
        }
        waiter?.continuation.resume(returning: false)
    }
}
