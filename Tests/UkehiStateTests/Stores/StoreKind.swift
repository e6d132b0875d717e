// The stores under test. Which there are is said by each test target (StoreKinds.swift), so that
// one suite runs over all of them.

import Testing
import UkehiBase
import UkehiState

/// A way to make stores, and to crash them.
struct StoreKind: Sendable, CustomTestStringConvertible {
    var name: String
    /// Makes an empty store. The store's files, if any, go when the box does.
    var make: @Sendable (_ seed: UInt64) throws -> StoreBox
    /// Whether anything survives a crash.
    var isDurable: Bool
    var testDescription: String { name }
}

/// A store and what belongs to it.
class StoreBox {
    var store: any StateStore
    init(_ store: any StateStore) { self.store = store }
    /// Crashes the process and opens what is left.
    func crash() throws {}
    /// Starts a flush and waits until it is done.
    func flush() throws { try store.requestFlush() }
}
