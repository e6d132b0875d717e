// Waiting for what other threads and processes do: with a deadline, never for an amount of time.

import Testing

/// What did not come true in time.
struct NotInTime: Error, CustomStringConvertible {
    var what: String
    var description: String { "not in time: \(what)" }
}

/// Returns as soon as `condition` holds.
///
/// - Throws: ``NotInTime`` when it does not within `patience`, which is far more than it should take.
func eventually(
    _ what: String, patience: Duration = .seconds(60), _ condition: () async throws -> Bool
) async throws {
    let clock = ContinuousClock()
    let limit = clock.now + patience
    while try await !condition() {
        guard clock.now < limit else { throw NotInTime(what: what) }
        try await Task.sleep(for: .milliseconds(10))
    }
}
