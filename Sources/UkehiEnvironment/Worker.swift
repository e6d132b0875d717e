// Where blocking work goes, so that a lane never waits.

/// Runs pieces of work one after another, in the order given, off the caller's thread.
public protocol Worker: AnyObject, Sendable {
    /// Hands over `work`; returns at once.
    func run(_ work: @escaping @Sendable () -> Void)
    /// Finishes what was handed over, then ends; returns when it has.
    func stop()
}
