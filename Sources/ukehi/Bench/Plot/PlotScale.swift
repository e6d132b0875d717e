// Axes: where their marks are, and what stands beside them.

import UkehiNode

/// Round marks on an axis from zero.
struct PlotScale: Equatable, Sendable {
    /// The axis ends here; a multiple of the step.
    let end: Double
    let step: Double

    /// An axis that reaches `most` with at most `marks` marks above zero, 1, 2 or 5 times a power of ten apart.
    init(reaching most: Double, marks: Int) {
        let least = max(most, 1e-9) / Double(max(marks, 1))
        var power = 1.0
        while power > least { power /= 10 }
        while power * 10 <= least { power *= 10 }
        let step =
            [1.0, 2, 5, 10].map { $0 * power }.first { $0 >= least * 0.999_999 } ?? power * 10
        self.step = step
        end = step * max((most / step - 1e-6).rounded(.up), 1)
    }

    var marks: [Double] { (0...Int((end / step).rounded())).map { Double($0) * step } }

    /// A number at a mark: `0`, `2.5`, `250`, `20k`, `1.5M`.
    static func text(_ value: Double) -> String {
        let (scaled, unit) =
            value >= 1e6 ? (value / 1e6, "M") : value >= 1e4 ? (value / 1e3, "k") : (value, "")
        var text = BenchFormat.fixed(scaled, 2)
        while text.last == "0" { text.removeLast() }
        if text.last == "." { text.removeLast() }
        return text + unit
    }
}

extension SplitReason {
    /// One letter that stands for it in a picture.
    var letter: Character {
        switch self {
        case .request: "r"
        case .size: "s"
        case .load: "l"
        case .end: "e"
        }
    }
}
