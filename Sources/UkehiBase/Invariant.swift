// The one way the engine states what must be true.

/// Stops the process, with its message, when `condition` is false; in every build mode.
///
/// `precondition` stops an optimised build too, but silently; `assert` is removed from it. A node
/// that has lost track of its own state must not go on serving it: losing one node is a fault the
/// cluster tolerates, a wrong answer is not. Never use it on bytes from disk, peers or callers:
/// those are errors with a place and a reason.
@inlinable
public func invariant(
    _ condition: @autoclosure () -> Bool,
    _ message: @autoclosure () -> String,
    file: StaticString = #fileID,
    line: UInt = #line
) {
    if !condition() { fatalError(message(), file: file, line: line) }
}
