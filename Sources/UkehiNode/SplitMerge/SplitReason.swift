// Why a region was divided.

/// What had a region divided.
package enum SplitReason: UInt8, Sendable, CaseIterable {
    /// Somebody asked for it.
    case request = 1
    /// It held too many bytes.
    case size = 2
    /// It was asked for too often.
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
