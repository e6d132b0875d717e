// What clients did and saw: the only evidence the linearizability checker gets.

/// One client operation, from its call to its return.
package struct HistoryOperation: Sendable, Hashable {
    package enum Action: Sendable, Hashable {
        case get(key: Int)
        case put(key: Int, value: UInt64)
        case delete(key: Int)
        /// Sets `value` if the key holds `expected`, nil meaning absence.
        case compareAndSet(key: Int, expected: UInt64?, value: UInt64)
        /// Adds one to a counter, in a session.
        case increment(key: Int)
        /// Reads these keys at one moment.
        case scan(keys: [Int])
    }
    package enum Outcome: Sendable, Hashable {
        case done
        /// What a get found; nil: nothing.
        case found(UInt64?)
        /// What a scan found, in the order of its keys.
        case scanned([UInt64?])
        /// What an increment left.
        case counted(UInt64)
        /// A compare-and-set's condition did not hold.
        case conditionFailed
        /// It may have been carried out, or be carried out later, or never.
        case unknown
        /// Nothing was done, and that is certain. Not part of what an order has to explain.
        case rejected
    }
    package var client: Int
    package var action: Action
    /// Nanoseconds.
    package var call: UInt64
    /// Nil if the outcome is unknown.
    package var ret: UInt64?
    package var outcome: Outcome
    /// Of what was written or found, as it was told; nil: nothing was, or it was not.
    package var version: UInt64?
    /// The write as one of a session: it may have been sent more than once.
    var sessionWrite: SessionWrite?

    package init(client: Int, action: Action, call: UInt64, ret: UInt64?, outcome: Outcome) {
        self.client = client
        self.action = action
        self.call = call
        self.ret = ret
        self.outcome = outcome
    }
}

/// One write of a session.
struct SessionWrite: Hashable, Sendable {
    var session: UInt64
    var number: UInt32
}
