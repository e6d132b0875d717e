// The operations that a node in this process and a client elsewhere have in common.

internal import UkehiPOSIX

/// A replicated, ordered map from bytes to bytes.
///
/// Implemented by ``Node``, ``Client`` and ``Session``; write code against it to run in any place. All
/// operations find the leader of the key's region by themselves and try again, within `timeout`,
/// whatever was refused without having been done. Only a session repeats a write whose outcome is
/// unknown, since its writes are carried out once however often they are sent.
///
/// Keys are up to 4 KiB, values up to 8 MiB.
public protocol KeyValueStore: Sendable {
    /// Runs one command and gives its result.
    ///
    /// On return the command is durable on a majority of the region's replicas.
    /// - Throws: ``RequestError/rejected(_:)`` when nothing was done,
    ///   ``RequestError/outcomeUnknown`` when that cannot be known.
    func run(_ command: Command, timeout: Duration) async throws(RequestError) -> CommandResult

    /// The value of `key` and its version; nil if there is none.
    func get(_ key: Bytes, mode: ReadMode, timeout: Duration) async throws(RequestError)
        -> VersionedValue?

    /// Up to `limit` keys in `lower..<upper`, in order; nil: no upper bound.
    ///
    /// Keys of one region are from one moment; regions are read one after another. `next` of the
    /// result is where to go on; nil when everything in the range is there.
    func scan(
        from lower: Bytes, to upper: Bytes?, limit: Int, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> ScanPage

    /// Opens a session, in which writes are carried out once however often they are sent. Asks nobody.
    func openSession() -> Session
}

/// How long operations try unless told otherwise.
public let defaultTimeout = Duration.seconds(5)

extension KeyValueStore {
    /// The value of `key` and its version; nil if there is none.
    public func get(
        _ key: Bytes, mode: ReadMode = .linearizable
    ) async throws(RequestError) -> VersionedValue? {
        try await get(key, mode: mode, timeout: defaultTimeout)
    }

    /// Up to `limit` keys of the range, in order.
    public func scan(
        _ range: Range<Bytes>, limit: Int = 1000, mode: ReadMode = .linearizable,
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> ScanPage {
        try await scan(
            from: range.lowerBound, to: range.upperBound, limit: limit, mode: mode,
            timeout: timeout)
    }

    /// Up to `limit` keys from `lower` on, in order.
    public func scan(
        from lower: Bytes, to upper: Bytes? = nil, limit: Int = 1000
    ) async throws(RequestError) -> ScanPage {
        try await scan(
            from: lower, to: upper, limit: limit, mode: .linearizable, timeout: defaultTimeout)
    }

    /// Runs one command and gives its result.
    public func run(_ command: Command) async throws(RequestError) -> CommandResult {
        try await run(command, timeout: defaultTimeout)
    }

    /// Sets `key` and gives the version it has now.
    @discardableResult
    public func put(
        _ key: Bytes, _ value: Bytes, timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> UInt64 {
        let result = try await run(.put(key: key, value: value), timeout: timeout)
        return try version(of: result)
    }

    /// Sets `key` for a while, and gives the version it has now.
    ///
    /// The end is reckoned by this machine's clock and judged by that of the region's leader: it is as exact as they
    /// agree. From then on no linearizable read, scan or condition sees the value; a stale read may until the region is
    /// written to or read so. A later ``put(_:_:timeout:)`` stays.
    /// - Parameter life: More than nothing; otherwise nothing is done.
    @discardableResult
    public func put(
        _ key: Bytes, _ value: Bytes, expiresAfter life: Duration,
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> UInt64 {
        guard life > .zero else {
            throw .rejected(.invalid("A value's life has to be longer than nothing."))
        }
        let (seconds, attoseconds) = life.components
        // Longer than a century is for ever, and does not overflow.
        let nanoseconds =
            UInt64(min(seconds, 1 << 32)) * 1_000_000_000 + UInt64(attoseconds) / 1_000_000_000
        let end = SystemClock().wallNanoseconds() + max(nanoseconds, 1)
        let command = Command.put(key: key, value: value, expiresAt: end)
        return try version(of: try await run(command, timeout: timeout))
    }

    /// Removes `key`; succeeds if it is not there.
    public func delete(
        _ key: Bytes, timeout: Duration = defaultTimeout
    ) async throws(RequestError) {
        _ = try version(of: try await run(.delete(key: key), timeout: timeout))
    }

    /// Sets `key`, or removes it (`value` nil), if it is as expected.
    ///
    /// - Returns: The version written; nil when it was not as expected and nothing was changed.
    @discardableResult
    public func compareAndSet(
        _ key: Bytes, expected: Expectation, to value: Bytes?,
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> UInt64? {
        let command = Command.compareAndSet(key: key, expected: expected, value: value)
        let result = try await run(command, timeout: timeout)
        if case .conditionFailed = result { return nil }
        return try version(of: result)
    }

    /// Adds to a counter, absent counting as 0, and gives its new value.
    @discardableResult
    public func increment(
        _ key: Bytes, by amount: Int64 = 1, timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> Int64 {
        let result = try await run(.increment(key: key, by: amount), timeout: timeout)
        if let value = result.counter { return value }
        throw refusal(of: result)
    }

    /// Runs puts, deletes, increments and checks of one region, all or nothing.
    ///
    /// - Returns: The version that its writes share; nil when a check failed and nothing was changed.
    @discardableResult
    public func batch(
        _ commands: [Command], timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> UInt64? {
        let result = try await run(.batch(commands), timeout: timeout)
        if case .conditionFailed = result { return nil }
        // The first key's region was asked: another key, or the end of a range, lies elsewhere.
        if case .invalid(.outsideRegion) = result {
            throw .rejected(
                .invalid(
                    "The keys lie in several regions: a batch is carried out within one. Split it, "
                        + "or use one write for each."))
        }
        return try version(of: result)
    }

    private func version(of result: CommandResult) throws(RequestError) -> UInt64 {
        guard let version = result.version else { throw refusal(of: result) }
        return version
    }
}

/// What a result that is no success means to a caller.
func refusal(of result: CommandResult) -> RequestError {
    switch result {
    case .invalid(let error): .rejected(.invalid(error.description))
    case .staleEpoch: .rejected(.staleEpoch(current: []))
    case .sessionExpired: .rejected(.sessionExpired)
    case .applied, .counter, .conditionFailed, .response:
        .rejected(.invalid("The region's state machine answers in another way than this asks for."))
    }
}
