// How the layers' errors look to an operator.

import UkehiEnvironment
package import UkehiState
package import UkehiWAL

extension NodeError {
    init(_ error: FileError, directory: String) {
        self.init(
            code: error.kind == .noSpace ? .diskFull : .ioFailed,
            message: "The data directory \(directory) cannot be used: \(error).")
    }

    package init(_ error: WALError) {
        let code: Code =
            switch error.code {
            case .corrupted: .corrupted
            case .diskFull: .diskFull
            case .identity, .locked, .unsupportedVersion: .identity
            case .configuration: .configuration
            default: .ioFailed
            }
        let place = error.position.map { " (\($0))" } ?? ""
        self.init(code: code, message: error.message + place)
    }

    package init(_ error: StateError) {
        let code: Code =
            switch error.code {
            case .corrupted, .unreadableEntry: .corrupted
            case .diskFull: .diskFull
            case .locked, .newerFormat: .identity
            default: .ioFailed
            }
        self.init(code: code, message: error.message)
    }
}
