// Work that may be done side by side, for code that has no threads of its own.

/// Runs independent pieces of work at the same time, where there are threads to run them.
public protocol ParallelRunner: Sendable {
    /// How many pieces run at the same time at most.
    var width: Int { get }
    /// Runs `work` for each position in `0..<count`, in any order and on any threads; returns when all
    /// have ended.
    func forEach(_ count: Int, _ work: @escaping @Sendable (Int) -> Void)
}

/// One after the other, on the caller's thread.
public struct SerialRunner: ParallelRunner {
    public init() {}
    public var width: Int { 1 }
    public func forEach(_ count: Int, _ work: @escaping @Sendable (Int) -> Void) {
        for position in 0..<count { work(position) }
    }
}
