// Why a region is divided.

/// What a split came of.
package enum SplitReason: UInt8, Sendable, CaseIterable {
    /// Somebody asked for it.
    case request = 1
    /// The region was too large.
    case size = 2
    /// It took too much of the load.
    case load = 3
    /// Keys were appended at its end.
    case end = 4
}

extension SplitReason: CustomStringConvertible {
    package var description: String {
        switch self {
        case .request: "request"
        case .size: "size"
        case .load: "load"
        case .end: "end"
        }
    }
}
